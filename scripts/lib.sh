# What the scripts share; sourced, not run.

export DEBIAN_FRONTEND=noninteractive

say() { printf '\033[1m%s\033[0m\n' "tcptrace: $*" >&2; }

fail() {
	printf 'tcptrace: %s\n' "$1" >&2
	exit "${2:-3}"
}

need_root() {
	[ "$(id -u)" = 0 ] || fail "this needs root; run it with sudo"
}

# Debian's names; where another distribution calls a package differently the name is translated.
install_packages() {
	if command -v apt-get >/dev/null; then
		install_debian "$@"
	elif command -v dnf >/dev/null; then
		local names=("${@/python3-bpfcc/python3-bcc}")
		names=("${names[@]/python3-venv/python3-pip}")
		names=("${names[@]/nginx-light/nginx}")
		rpm -q "${names[@]}" >/dev/null 2>&1 || dnf install -y -q "${names[@]}"
	else
		fail "neither apt-get nor dnf is here; install these yourself: $*"
	fi
}

install_debian() {
	local missing=()
	for name in "$@"; do
		dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
	done
	[ ${#missing[@]} = 0 ] && return
	say "installing ${missing[*]}"
	apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null 2>&1 && return
	apt-get update -qq </dev/null
	apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

# nginx's package starts it and has it started at boot; the demo wants the program, not a server on port 80.
install_nginx_idle() { install_idle nginx nginx-light; }

# A program whose package would start it as a service of the host's.
install_idle() {
	command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] && return
	local policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ] && [ -d /usr/sbin ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	install_packages "$2"
	if command -v systemctl >/dev/null; then
		systemctl disable --quiet "${3:-$1}" 2>/dev/null || true
	fi
}

# A virtual environment that sees the distribution's bcc. /usr/bin/python3 is named: only that one has it.
make_venv() {
	[ -x "$1/bin/pip" ] && "$1/bin/python" -c 'import bcc' 2>/dev/null && return
	rm -rf "$1"
	/usr/bin/python3 -m venv --system-site-packages "$1"
}
