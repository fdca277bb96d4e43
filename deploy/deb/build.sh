#!/bin/sh
# Build the packages of agent, command and controller from this checkout, for the Debian releases
# named (default: all known), into the directory $DEBS (default dist).
#
#   deploy/deb/build.sh [bookworm] [trixie]
#
# Agent and command are each a virtual environment at its final path, over the release's own
# python3, with all that it needs in it at the versions (and hashes) of constraints.txt: installing
# it asks nobody for anything. The agent's also sees the release's packages, for python3-libvirt.
# The controller is the command as a service: its package has the unit and no program.
# Needs `make .venv/ready` and dpkg-deb; same checkout, same packages: SOURCE_DATE_EPOCH is the
# last commit's.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
bin=$checkout/.venv/bin
debs=${DEBS:-$checkout/dist}
[ $# -gt 0 ] || set -- bookworm trixie

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: "${SOURCE_DATE_EPOCH:=$(git -C "$checkout" log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH

wheels() {
    for member in proto agent controller; do
        # A copy: a build back end may leave files of its own beside what it builds.
        cp -r "$checkout/$member" "$work/$member"
        find "$work/$member" -name __pycache__ -prune -exec rm -rf {} +
        "$bin/uv" build --quiet --wheel --out-dir "$work/wheels" "$work/$member"
    done
}

# environment TREE PLACE PROGRAM PYTHON SYSTEM_PACKAGES WHEEL
environment() {
    venv=$1$2
    mkdir -p "$venv/bin"
    ln -s "/usr/bin/python$4" "$venv/bin/python3"
    printf 'home = /usr/bin\ninclude-system-site-packages = %s\nversion = %s\n' "$5" "$4" \
        >"$venv/pyvenv.cfg"
    "$bin/uv" pip install --quiet --no-compile --link-mode copy --target "$work/site" \
        --python-version "$4" --python-platform x86_64-manylinux_2_28 --only-binary :all: \
        --constraint "$checkout/constraints.txt" --find-links "$work/wheels" "$6"
    mkdir -p "$venv/lib/python$4"
    # Programs of what it needs are not ours to hand out.
    rm -rf "$work/site/bin" "$work/site/.lock"
    find "$work/site" -name direct_url.json -delete -o -name uv_cache.json -delete
    find "$work/site" -type f -exec chmod 644 {} +
    mv "$work/site" "$venv/lib/python$4/site-packages"
    cat >"$venv/bin/$3" <<END
#!$2/bin/python3 -I
import sys

from virt_preflight.$7.cli import main

sys.exit(main())
END
    chmod 755 "$venv/bin/$3"
}

# package NAME TREE RELEASE PYTHON MEMBER
package() {
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$checkout/$5/pyproject.toml")
    case $3 in bookworm) suffix=deb12 next=3.12 ;; trixie) suffix=deb13 next=3.14 ;; esac
    mkdir -p "$2/DEBIAN" "$2/usr/share/doc/$1"
    sed -e "s/@VERSION@/$version-1~$suffix/" -e "s/@PYTHON@/$4/g" -e "s/@NEXT@/$next/g" \
        -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$2" | cut -f1)/" \
        "$here/$1/control.in" >"$2/DEBIAN/control"
    for script in postinst prerm postrm; do
        [ -e "$here/$1/$script" ] || continue
        sed "s/@PYTHON@/$4/g" "$here/$1/$script" >"$2/DEBIAN/$script"
        chmod 755 "$2/DEBIAN/$script"
    done
    (cd "$2" && find etc -type f 2>/dev/null | sed 's,^,/,') >"$2/DEBIAN/conffiles"
    [ -s "$2/DEBIAN/conffiles" ] || rm "$2/DEBIAN/conffiles"
    cp "$here/copyright" "$2/usr/share/doc/$1/copyright"
    printf '%s (%s-1~%s) %s; urgency=medium\n\n  * See CHANGELOG.md of the project.\n\n -- %s  %s\n' \
        "$1" "$version" "$suffix" "$3" "virt-preflight <virt-preflight@localhost>" \
        "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" |
        gzip -9n >"$2/usr/share/doc/$1/changelog.Debian.gz"
    (cd "$2" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z |
        xargs -0 md5sum) >"$2/DEBIAN/md5sums"
    find "$2" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    mkdir -p "$debs"
    dpkg-deb --root-owner-group -Zzstd -z9 --build "$2" "$debs" >/dev/null
}

python_of() {
    case $1 in
    bookworm) echo 3.11 ;;
    trixie) echo 3.13 ;;
    *) echo "$0: unknown release $1: bookworm and trixie are known" >&2 && exit 1 ;;
    esac
}

agent() {
    tree=$work/$1/agent place=/usr/lib/virt-preflight-agent
    environment "$tree" "$place" virt-preflight-agent "$2" true virt-preflight-agent agent
    mkdir -p "$tree/usr/sbin" "$tree/etc/virt-preflight" "$tree/lib/systemd/system" \
        "$tree/usr/lib/sysusers.d" "$tree/usr/lib/tmpfiles.d" "$tree/usr/share/polkit-1/rules.d" \
        "$tree/usr/share/man/man8" "$tree/usr/share/virt-preflight-agent"
    ln -s "$place/bin/virt-preflight-agent" "$tree/usr/sbin/virt-preflight-agent"
    cp "$checkout/deploy/agent.toml" "$tree/etc/virt-preflight/"
    cp "$checkout"/deploy/systemd/virt-preflight-agent.* \
        "$checkout"/deploy/systemd/virt-preflight-deputy.* "$tree/lib/systemd/system/"
    cp "$checkout/deploy/sysusers.d/virt-preflight-agent.conf" "$tree/usr/lib/sysusers.d/"
    cp "$checkout/deploy/tmpfiles.d/virt-preflight-agent.conf" "$tree/usr/lib/tmpfiles.d/"
    cp "$checkout/deploy/polkit/60-virt-preflight.rules" "$tree/usr/share/polkit-1/rules.d/"
    cp -r "$checkout/deploy/trial" "$checkout/deploy/rehearsal" \
        "$tree/usr/share/virt-preflight-agent/"
    cp "$work"/man/*.8 "$tree/usr/share/man/man8/"
    gzip -9n "$tree"/usr/share/man/man8/*
    package virt-preflight-agent "$tree" "$1" "$2" agent
}

command_line() {
    tree=$work/$1/command place=/usr/lib/virt-preflight
    environment "$tree" "$place" virt-preflight "$2" false virt-preflight controller
    mkdir -p "$tree/usr/bin" "$tree/usr/share/man/man1" \
        "$tree/usr/share/doc/virt-preflight/examples" \
        "$tree/usr/share/bash-completion/completions" "$tree/usr/share/zsh/vendor-completions" \
        "$tree/usr/share/fish/vendor_completions.d"
    ln -s "$place/bin/virt-preflight" "$tree/usr/bin/virt-preflight"
    # An example: which hosts there are only the operator knows.
    cp "$checkout/deploy/fleet.toml" "$tree/usr/share/doc/virt-preflight/examples/"
    cp "$work"/completion/virt-preflight.bash \
        "$tree/usr/share/bash-completion/completions/virt-preflight"
    cp "$work"/completion/virt-preflight.zsh "$tree/usr/share/zsh/vendor-completions/_virt-preflight"
    cp "$work"/completion/virt-preflight.fish "$tree/usr/share/fish/vendor_completions.d/"
    cp "$work"/man/*.1 "$tree/usr/share/man/man1/"
    gzip -9n "$tree"/usr/share/man/man1/*
    package virt-preflight "$tree" "$1" "$2" controller
}

controller() {
    tree=$work/$1/controller
    mkdir -p "$tree/etc/virt-preflight" "$tree/lib/systemd/system" "$tree/usr/lib/sysusers.d"
    cp "$checkout/deploy/controller.toml" "$tree/etc/virt-preflight/"
    cp "$checkout/deploy/systemd/virt-preflight-controller.service" "$tree/lib/systemd/system/"
    cp "$checkout/deploy/sysusers.d/virt-preflight-controller.conf" "$tree/usr/lib/sysusers.d/"
    package virt-preflight-controller "$tree" "$1" "$2" controller
}

wheels
"$bin/python" "$checkout/deploy/man/generate.py" "$work/man"
mkdir "$work/completion"
for shell in bash zsh fish; do
    _VIRT_PREFLIGHT_COMPLETE=${shell}_source "$bin/virt-preflight" \
        >"$work/completion/virt-preflight.$shell"
done
for release in "$@"; do
    python=$(python_of "$release")
    agent "$release" "$python"
    command_line "$release" "$python"
    controller "$release" "$python"
done
