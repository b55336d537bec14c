"""check_event.py CASE.zip LEAF: check one event of a case without Veritrail.

Python 3.6 or later, standard library only. Writes the files for checking the
signatures with openssl into the current directory.
"""
import base64, hashlib, json, sys, zipfile

case, leaf_index = zipfile.ZipFile(sys.argv[1]), int(sys.argv[2])

# Step 1. The event, and its proof on the same line of the other file.
with case.open("events.jsonl") as events, case.open("proofs.jsonl") as proofs:
    for event, line in zip(events, proofs):
        proof = json.loads(line.decode())
        if proof["leaf"] == leaf_index:
            break
    else:
        sys.exit("the case has no event with leaf index %d" % leaf_index)
leaf = event[:-1]  # the newline is not part of the leaf
if json.loads(leaf.decode())["id"] != proof["id"]:
    sys.exit("the id beside the proof is not that of the event")
print("event        ", leaf.decode())

# Step 2. What was signed: the text of the note, up to its last empty line.
note = case.read("checkpoint")
cut = note.rindex(b"\n\n") + 1
text, signatures = note[:cut], note[cut + 1:].decode().splitlines()
origin, size, root = text.decode().split("\n")[:3]
size = int(size)
print("checkpoint   ", origin, size, root)


# Step 3. From the leaf up to the root (RFC 6962, section 2.1).
def root_from_proof(name):
    def digest(data):
        return hashlib.new(name, data).digest()

    node, at, last = digest(b"\x00" + leaf), leaf_index, size - 1
    if not 0 <= at <= last:
        sys.exit("the leaf is not below the tree size")
    for sibling in map(base64.b64decode, proof[name]):
        if last == 0:
            sys.exit("the proof is too long")
        if at % 2 == 1 or at == last:
            node = digest(b"\x01" + sibling + node)
            while at % 2 == 0 and at > 0:
                at, last = at // 2, last // 2
        else:
            node = digest(b"\x01" + node + sibling)
        at, last = at // 2, last // 2
    if last != 0:
        sys.exit("the proof is too short")
    return base64.b64encode(node).decode()


def compare(name, want):
    got = root_from_proof(name)
    print("%-13s" % (name + " root"), got)
    if got != want:
        sys.exit("DOES NOT HOLD: the checkpoint has another %s root, %s" % (name, want))


compare("sha256", root)


# Step 4. The signatures, laid out for openssl.
def save(name, data):
    with open(name, "wb") as f:
        f.write(data)


for vkey in case.read("keys").decode().splitlines():
    key_name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    for line in signatures:
        _, signer, blob = line.split(" ")
        blob = base64.b64decode(blob)
        if signer != key_name or blob[:4].hex() != key_id:
            continue
        if key[:1] == b"\x01":  # Ed25519
            save("ed25519.der", bytes.fromhex("302a300506032b6570032100") + key[1:])
            save("ed25519.msg", text)
            save("ed25519.sig", blob[4:])
            print("ed25519 key  ", vkey)
        if key[:-65] == b"\xffveritrail.dev/sm2-sm3/v1":  # SM2 with SM3
            sm3_root = base64.b64encode(blob[4:36])
            save("sm2.der", bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200") + key[-65:])
            save("sm2.msg", b"veritrail.dev/sm2-sm3/v1\nsm3 " + sm3_root + b"\n" + text)
            save("sm2.sig", blob[36:])
            print("sm2 key      ", vkey)
            if "sm3" in hashlib.algorithms_available:
                compare("sm3", sm3_root.decode())
            else:
                print("sm3 root      not computed: this Python has no SM3")
print("the proof holds; now check the signatures, and whose the keys are")
