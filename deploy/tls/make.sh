#!/bin/sh
# A small authority, and certificates by it in libvirt's own layout, below a directory of yours.
#
#   make.sh DIRECTORY ca
#   make.sh DIRECTORY host NAME [OTHER-NAME | IP]...         to answer and to ask: etc/pki
#   make.sh DIRECTORY controller NAME [OTHER-NAME | IP]...   the same
#   make.sh DIRECTORY person NAME                            to ask: .pki/libvirt
#
# A certificate that is there is renewed. $DAYS: how long it is valid (397; the authority ten years).
set -eu
umask 077

fail() {
    echo "make.sh: $1" >&2
    exit 1
}

[ $# -ge 2 ] || fail "wanted DIRECTORY and one of ca, host, controller, person"
command -v openssl >/dev/null || fail "openssl is not installed"
place=$1 kind=$2
shift 2
case ${DAYS-397} in '' | 0* | *[!0-9]*) fail "DAYS=$DAYS: wanted a number of days" ;; esac

key() {
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ||
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}

if [ "$kind" = ca ]; then
    [ $# -eq 0 ] || fail "ca: wanted nothing more"
    [ ! -e "$place/cakey.pem" ] || fail "$place/cakey.pem is there already: another would end all trust"
    mkdir -p "$place"
    key "$place/cakey.pem"
    openssl req -x509 -new -key "$place/cakey.pem" -days 3650 -out "$place/cacert.pem" \
        -subj "/O=virt-preflight/CN=authority" \
        -addext "keyUsage=critical,keyCertSign,cRLSign"
    chmod 644 "$place/cacert.pem"
    exit 0
fi

case $kind in host | controller | person) ;; *) fail "$kind: wanted ca, host, controller or person" ;; esac
[ $# -ge 1 ] || fail "$kind: wanted a name"
[ -e "$place/cakey.pem" ] || fail "no $place/cakey.pem: make.sh $place ca makes it"
name=$1
# Who asks as a person must not come as the host of that name.
case $kind in person) other=etc ;; *) other=.pki ;; esac
[ ! -e "$place/$name/$other" ] || fail "$name: a person and a machine cannot have one name"
others=
for one in "$@"; do
    case $one in
    '' | -* | .* | *[!A-Za-z0-9._:@-]*) fail "'$one' is no name of a $kind" ;;
    *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) others="$others,IP:$one" ;;
    *@*) others="$others,email:$one" ;;
    *) others="$others,DNS:$one" ;;
    esac
done
case $kind in
person) uses=clientAuth ;;
*) uses=serverAuth,clientAuth ;;
esac

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
key "$new/key.pem"
openssl req -new -key "$new/key.pem" -out "$new/request.pem" \
    -subj "/O=virt-preflight/OU=$kind/CN=$name"
cat >"$new/extensions" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $uses
subjectAltName = ${others#,}
END
serial=0x$(openssl rand -hex 16 | sed 's/^./4/')
openssl x509 -req -in "$new/request.pem" -CA "$place/cacert.pem" -CAkey "$place/cakey.pem" \
    -set_serial "$serial" -days "${DAYS-397}" -extfile "$new/extensions" -out "$new/cert.pem" \
    2>/dev/null || fail "openssl could not sign a certificate for '$name'"

# Each file at once, and the key first: who reads in between finds the two do not belong together,
# and goes on with what he has. Folders as a system has them: they are copied over its own.
put() {
    (umask 022 && mkdir -p "$(dirname "$2")")
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv "$2.new" "$2"
}

if [ "$kind" = person ]; then
    to=$place/$name/.pki/libvirt
    put "$new/key.pem" "$to/clientkey.pem" 600
    put "$new/cert.pem" "$to/clientcert.pem" 644
    put "$place/cacert.pem" "$to/cacert.pem" 644
else
    to=$place/$name/etc/pki
    mkdir -p "$place/$name"
    (umask 022 && mkdir -p "$to/libvirt")
    mkdir -p "$to/libvirt/private"
    for side in server client; do
        put "$new/key.pem" "$to/libvirt/private/${side}key.pem" 600
        put "$new/cert.pem" "$to/libvirt/${side}cert.pem" 644
    done
    put "$place/cacert.pem" "$to/CA/cacert.pem" 644
fi
openssl x509 -in "$new/cert.pem" -noout -enddate | sed "s|^notAfter=|$to: valid until |"
