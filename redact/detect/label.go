package detect

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Label gives a class to a key, by its path: "sub.phone" is the key phone of the part sub, "*.id_card" the key of any
// part, "ctx.*" every key of a part. "obj.sensitivity=secret" gives a class to the other values of an event that holds
// this pair.
type Label struct {
	Path  string
	Class Class
}

type labels struct {
	exact map[string]Class // "part.key", key folded
	any   map[string]Class // key folded
	part  map[string]Class
	pairs []pairLabel
	// builtin tells whether the built-in labels follow.
	builtin bool
}

type pairLabel struct {
	part, key, value string
	class            Class
}

func (l *labels) compile(given []Label, builtin bool) error {
	l.exact, l.any, l.part, l.builtin = map[string]Class{}, map[string]Class{}, map[string]Class{}, builtin
	for i, g := range given {
		path, value, pair := strings.Cut(g.Path, "=")
		part, key, ok := strings.Cut(path, ".")
		fail := func(why string) error { return fmt.Errorf("label %d: %s", i+1, why) }
		var buf [maxKey]byte
		folded, _, _ := foldKey(buf[:0], key)
		switch {
		case !ok || part == "" || key == "":
			return fail("want part.key, *.key, part.* or part.key=value")
		case g.Class == "":
			return fail("no class")
		case key != "*" && len(folded) == 0:
			return fail("the key holds no letter or digit, or is too long")
		case pair && (key == "*" || value == ""):
			return fail("a pair needs a key and a value")
		case pair:
			l.pairs = append(l.pairs, pairLabel{part, string(folded), value, g.Class})
		case part == "*" && key == "*":
			return fail("*.* would label everything")
		case part == "*":
			l.any[string(folded)] = g.Class
		case key == "*":
			l.part[part] = g.Class
		default:
			l.exact[part+"."+string(folded)] = g.Class
		}
	}
	if builtin {
		for _, v := range []string{"secret", "confidential", "restricted", "top_secret", "机密", "秘密", "绝密"} {
			l.pairs = append(l.pairs, pairLabel{"obj", "sensitivity", v, Confidential})
		}
	}
	return nil
}

// Label returns the class that the path of a key gives to its value: by the labels of the Config, the more exact ones
// first, then by the built-in ones.
func (d *Detector) Label(part, key string) (Class, bool) {
	l := &d.labels
	var buf, path [maxKey + 16]byte
	folded, words, n := foldKey(buf[:0], key)
	if len(folded) > 0 {
		if len(l.exact) > 0 && len(part) < 16 {
			p := append(append(append(path[:0], part...), '.'), folded...)
			if c, ok := l.exact[string(p)]; ok {
				return c, true
			}
		}
		if c, ok := l.any[string(folded)]; ok {
			return c, true
		}
	}
	if c, ok := l.part[part]; ok {
		return c, true
	}
	if !l.builtin || len(folded) == 0 {
		return "", false
	}
	if c, ok := wholeKeys[string(folded)]; ok {
		return c, true
	}
	for i := range n {
		if c, ok := keyEndings[string(folded[words[i]:])]; ok {
			return c, true
		}
	}
	return "", false
}

// PairLabel returns the class that a pair of an event gives to the other values of that event.
func (d *Detector) PairLabel(part, key, value string) (Class, bool) {
	if len(d.labels.pairs) == 0 {
		return "", false
	}
	var buf [maxKey]byte
	folded, _, _ := foldKey(buf[:0], key)
	for i := range d.labels.pairs {
		p := &d.labels.pairs[i]
		if (p.part == part || p.part == "*") && p.key == string(folded) && strings.EqualFold(p.value, value) {
			return p.class, true
		}
	}
	return "", false
}

// maxKey bounds the keys that labels see, in folded bytes; an event's keys are no longer.
const maxKey = 256

const maxWords = 16

// foldKey appends key without case and separators, and returns where its words begin.
func foldKey(dst []byte, key string) (folded []byte, words [maxWords]int, n int) {
	start, lower := true, false
	for _, r := range key {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			start = true
			continue
		}
		upper := r < utf8.RuneSelf && r >= 'A' && r <= 'Z'
		if start || upper && lower {
			if n < maxWords {
				words[n] = len(dst)
				n++
			}
			start = false
		}
		lower = !upper
		if len(dst)+utf8.UTFMax > cap(dst) || len(dst)+utf8.UTFMax > maxKey {
			return nil, words, 0
		}
		dst = utf8.AppendRune(dst, unicode.ToLower(r))
	}
	return dst, words, n
}

// wholeKeys label a key that is this and nothing more: a file_name is not a person's, nor an ip_address a postal one.
var wholeKeys = map[string]Class{
	"name": Name, "姓名": Name, "customername": Name, "cname": Name, "custname": Name,
	"clientname": Name, "payername": Name, "payeename": Name, "contactname": Name, "personname": Name,
	"firstname": Name, "lastname": Name, "givenname": Name, "familyname": Name, "surname": Name, "xm": Name,
	"addr": Address, "address": Address, "地址": Address, "住址": Address,
	"tel": Landline, "telephone": Phone, "sj": Phone, "sfz": IDCard, "token": Credential, "auth": Credential,
	"pin": Credential, "key": Credential, "pass": Credential,
}

// keyEndings label every key whose last words are these: customer_phone, oldPassword.
var keyEndings = map[string]Class{
	"phone": Phone, "phoneno": Phone, "phonenumber": Phone, "mobile": Phone, "mobileno": Phone, "mobilenumber": Phone,
	"mobilephone": Phone, "cellphone": Phone, "msisdn": Phone, "手机": Phone, "手机号": Phone, "手机号码": Phone,
	"联系电话": Phone, "电话": Phone, "landline": Landline, "telno": Landline, "固话": Landline, "座机": Landline, "fax": Landline,
	"idcard": IDCard, "idcardno": IDCard, "idcardnumber": IDCard, "idno": IDCard, "idnumber": IDCard, "certno": IDCard,
	"certnumber": IDCard, "identityno": IDCard, "identitycard": IDCard, "identitynumber": IDCard, "nationalid": IDCard,
	"身份证": IDCard, "身份证号": IDCard, "身份证号码": IDCard, "证件号": IDCard, "证件号码": IDCard,
	"bankcard": BankCard, "bankcardno": BankCard, "cardno": BankCard, "cardnumber": BankCard, "pan": BankCard,
	"creditcard": BankCard, "debitcard": BankCard, "bankaccount": BankCard, "accountno": BankCard, "accountnumber": BankCard,
	"银行卡": BankCard, "银行卡号": BankCard, "卡号": BankCard, "账号": BankCard,
	"uscc": USCC, "creditcode": USCC, "统一社会信用代码": USCC, "passport": Passport, "passportno": Passport,
	"passportnumber": Passport, "护照": Passport, "护照号": Passport, "护照号码": Passport,
	"plate": Plate, "plateno": Plate, "platenumber": Plate, "licenseplate": Plate, "licenceplate": Plate, "车牌": Plate, "车牌号": Plate,
	"email": Email, "mail": Email, "emailaddress": Email, "邮箱": Email, "电子邮箱": Email,
	"iban": IBAN, "ssn": USSSN, "socialsecuritynumber": USSSN, "jwt": JWT, "privatekey": PrivateKey, "私钥": PrivateKey,
	"apikey": APIKey, "accesskey": APIKey, "accesskeyid": APIKey, "secretkey": APIKey, "secretaccesskey": APIKey,
	"password": Credential, "passwd": Credential, "pwd": Credential, "passphrase": Credential, "secret": Credential,
	"accesstoken": Credential, "refreshtoken": Credential, "authtoken": Credential, "sessiontoken": Credential,
	"idtoken": Credential, "bearertoken": Credential, "csrftoken": Credential, "credential": Credential,
	"credentials": Credential, "authorization": Credential, "cookie": Credential, "setcookie": Credential,
	"otp": Credential, "cvv": Credential, "cvv2": Credential, "密码": Credential, "口令": Credential, "验证码": Credential,
	"realname": Name, "fullname": Name, "真实姓名": Name, "客户姓名": Name, "户名": Name,
	"homeaddress": Address, "postaladdress": Address, "mailingaddress": Address, "streetaddress": Address,
	"billingaddress": Address, "shippingaddress": Address, "家庭住址": Address, "联系地址": Address, "通讯地址": Address,
}
