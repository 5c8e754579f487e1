#!/bin/bash
# Installs what building and testing rke2flow needs on a Debian machine, and nothing that is there already. Run as root,
# or as a user with sudo. Safe to run again.
set -euo pipefail

# A compiler and ssh for building and rehearsing; the rest for the tests, which use the real programs.
packages=(ca-certificates curl dbus e2fsprogs etcd-client etcd-server gcc iproute2 libc6-dev openssh-client openssh-server procps
          strace sudo systemd unzip)
rust=1.95

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    # Installed, not started: tests bring their own sshd and etcd.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
        trap 'as_root rm -f $policy' EXIT
    fi
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi

[ -e "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
if ! command -v cargo >/dev/null; then
    curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile default
    . "$HOME/.cargo/env"
fi
found=$(rustc --version | cut -d ' ' -f 2)
if [ "$(printf '%s\n' $rust "$found" | sort -V | head -n 1)" != $rust ]; then
    echo "rustc $found is older than $rust: rustup update stable" >&2
    exit 1
fi
