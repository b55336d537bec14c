package detect

// A Class says what kind of sensitive value a finding is.
type Class string

// The classes that the detector finds by itself, or by a label. Rules and labels of a Config may add others.
const (
	Phone        Class = "phone"
	Landline     Class = "landline"
	IDCard       Class = "id_card"
	BankCard     Class = "bank_card"
	USCC         Class = "uscc"
	Passport     Class = "passport"
	Plate        Class = "plate"
	Email        Class = "email"
	IPv4         Class = "ipv4"
	IPv6         Class = "ipv6"
	IBAN         Class = "iban"
	USSSN        Class = "us_ssn"
	JWT          Class = "jwt"
	Credential   Class = "credential"
	URLUserinfo  Class = "url_userinfo"
	PrivateKey   Class = "private_key"
	APIKey       Class = "api_key"
	Name         Class = "name"
	Address      Class = "address"
	Confidential Class = "confidential"
)

// NotSensitive is the class of a label that takes a key out of the built-in labels. Patterns still apply to its value.
const NotSensitive Class = "none"

// Certainty says how much stands behind a finding.
type Certainty string

// How certain a finding of a class is.
const (
	Checksummed Certainty = "checksummed" // a check digit or a decoded structure holds
	Shaped      Certainty = "shaped"      // the grammar and the assigned ranges hold
	Contextual  Certainty = "contextual"  // a word or label beside the value says so
)

// A ClassInfo describes a built-in class.
type ClassInfo struct {
	Class              Class
	English, Chinese   string
	Standard           string
	Certainty          Certainty
	PatternOff, Labels bool // no pattern finds it; the built-in labels name it
}

type classID uint8

const (
	cPhone classID = iota
	cLandline
	cIDCard
	cBankCard
	cUSCC
	cPassport
	cPlate
	cEmail
	cIPv4
	cIPv6
	cIBAN
	cUSSSN
	cJWT
	cCredential
	cURLUserinfo
	cPrivateKey
	cAPIKey
	cName
	cAddress
	cConfidential
	classCount
)

// classes is in the order of the classIDs.
var classes = [classCount]ClassInfo{
	{Phone, "mobile number of mainland China", "手机号码", "YD/T 1314, assigned segments", Shaped, false, true},
	{Landline, "landline number of mainland China", "固定电话号码", "assigned area codes", Shaped, false, true},
	{IDCard, "resident identity number", "居民身份证号码", "GB 11643-1999", Checksummed, false, true},
	{BankCard, "payment card number", "银行卡号", "ISO/IEC 7812, Luhn", Checksummed, false, true},
	{USCC, "unified social credit code", "统一社会信用代码", "GB 32100-2015", Checksummed, false, true},
	{Passport, "Chinese passport number", "护照号码", "", Contextual, false, true},
	{Plate, "licence plate of mainland China", "机动车号牌", "GA 36-2018", Shaped, false, true},
	{Email, "e-mail address", "电子邮箱", "RFC 5321, dot-atoms", Shaped, false, true},
	{IPv4, "IPv4 address", "IPv4 地址", "RFC 791", Shaped, false, false},
	{IPv6, "IPv6 address", "IPv6 地址", "RFC 4291", Shaped, false, false},
	{IBAN, "international bank account number", "国际银行账号", "ISO 13616", Checksummed, false, true},
	{USSSN, "US social security number", "美国社会安全号码", "SSA randomization rules", Shaped, false, true},
	{JWT, "JSON web token", "JSON 网络令牌", "RFC 7519", Checksummed, false, true},
	{Credential, "password, token or authorization header", "口令、令牌、认证头", "RFC 7617, RFC 6750", Contextual, false, true},
	{URLUserinfo, "user information in a URL", "网址中的用户信息", "RFC 3986", Shaped, false, false},
	{PrivateKey, "private key block", "私钥", "RFC 7468", Shaped, false, true},
	{APIKey, "key of a known service", "服务密钥", "", Shaped, false, true},
	{Name, "personal name", "姓名", "", Contextual, false, true},
	{Address, "postal address", "地址", "", Contextual, false, true},
	{Confidential, "value of an object marked confidential", "标记为敏感的值", "", Contextual, true, true},
}

// Classes returns the built-in classes.
func Classes() []ClassInfo { return append([]ClassInfo(nil), classes[:]...) }

// rank decides which of two overlapping findings names the class; the longer one does among equals.
func rank(c Class) int {
	switch c {
	case PrivateKey:
		return 5
	case JWT:
		return 4
	case APIKey:
		return 3
	case URLUserinfo:
		return 2
	case Credential:
		return 1
	}
	return 0
}
