# Where Wine lives and who runs it. Sourced by the scripts beside this file, never run.
#
# Wine runs as a user without privileges: as root nothing is ever read-only and no access list binds. A developer who
# is one already runs it himself, below his cache directory. For root, as in CI, there is a system user of its own, and
# a place that this user can reach, which root's home is not.

readonly repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly wine_user=veritrail-wine

if [[ $(id -u) -eq 0 ]]; then
	readonly base=/var/cache/veritrail-wine
	readonly become=(setpriv --reuid="$wine_user" --regid="$wine_user" --clear-groups --no-new-privs)
else
	readonly base=${XDG_CACHE_HOME:-$HOME/.cache}/veritrail/wine
	readonly become=()
fi
readonly prefix=$base/prefix

# Nothing of the caller's environment: Wine hands it to Windows programs. Wine's own chatter would be taken for theirs,
# and without a UTF-8 locale file names lose what is not ASCII.
readonly clean=(env -i "HOME=$base/home" "USER=$wine_user" "LOGNAME=$wine_user" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
	"WINEPREFIX=$prefix" WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml=)

# Debian's wine complains on every start that there is no 32-bit one.
wine=wine
[[ ! -x /usr/lib/wine/wine64 ]] || wine=/usr/lib/wine/wine64
readonly wine

die() {
	printf 'test/wine: %s\n' "$*" >&2
	exit 1
}

# What it leaves running must not hold the lock of setup (9).
as_wine() { "${become[@]}" "${clean[@]}" "$@" 9>&-; }
