#!/bin/sh
# Records events with curl: one, several at once, and one that is refused. Start the trail first:
#
#     veritrail up --data t1
#     curl/record.sh http://127.0.0.1:8790 t1/token
set -eu
url=${1:?usage: record.sh URL TOKENFILE} tokenfile=${2:?usage: record.sh URL TOKENFILE}

work=$(mktemp -d) # for its owner alone
trap 'rm -rf "$work"' EXIT
answer=$work/answer

# The token goes to curl in a file: arguments can be read by everybody on the machine.
printf 'Authorization: Bearer %s\n' "$(cat "$tokenfile")" >"$work/header"

post() { # [curl arguments...]: prints the status
	curl --silent --show-error --header "@$work/header" --output "$answer" --write-out '%{http_code}' "$@" "$url/v1/events"
}

expect() { # STATUS WHAT STATUS-WE-GOT
	if [ "$3" != "$1" ]; then
		echo "$2: answered $3, want $1:" >&2
		cat "$answer" >&2
		exit 1
	fi
	echo "$2: $3"
}

expect 201 "one event" "$(post --data '{"sub":{"user":"u1"},"act":"AUTH.LOGIN.OK","ctx":{"ip":"192.0.2.7"}}')"

# An id of one's own makes it safe to send the event again when no answer came.
id=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)
expect 201 "one with an id" "$(post --data '{"id":"'"$id"'","sub":{"user":"u1"},"act":"DATA.TRANSFER","obj":{"account":"62"}}')"

# One event a line. --data-binary, because --data takes the newlines out.
expect 201 "two lines" "$(post --header 'Content-Type: application/x-ndjson' --data-binary @- <<'LINES'
{"sub":{"user":"u2"},"act":"AUTH.LOGIN.FAIL","sev":"WARN"}
{"sub":{"user":"u2"},"act":"AUTH.LOGIN.FAIL","sev":"ERROR"}
LINES
)"

# Nobody did it: refused, with the place and the rule, and the refusal itself is on record.
expect 422 "an event without a subject" "$(post --data '{"act":"AUTH.LOGIN.OK"}')"
cat "$answer"
