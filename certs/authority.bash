# SPDX-License-Identifier: Apache-2.0
#
# What certs/make-certs and certs/make-bad-certs share: an authority in a folder, and certificates from it. Sourced, not run.
# Needs bash and openssl.

umask 077

fail() {
    echo "${0##*/}: $1" >&2
    exit "${2-1}"
}

run_openssl() {
    local output
    output=$(openssl "$@" 2>&1) || fail "openssl $1 failed: $output"
}

# moment SECONDS: so many seconds from now, as openssl ca(1) wants it.
moment() {
    TZ=UTC printf "%(%Y%m%d%H%M%SZ)T" "$(($(printf "%(%s)T" -1) + $1))"
}

# Validity unless a caller says otherwise. It begins an hour ago: clocks of two machines differ.
valid_from=$(moment -3600)

# alternative_name NAME: the line of a subjectAltName section, without its number.
alternative_name() {
    local name=$1
    if [[ $name =~ ^[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9:/._~%@?=\&+-]+$ ]]; then
        echo "URI $name"
    elif [[ $name =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ || ($name == *:* && $name =~ ^[0-9A-Fa-f:.]+$) ]]; then
        echo "IP $name"
    elif [[ $name =~ ^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$ ]]; then
        echo "DNS $name"
    else
        fail "\"$name\" is neither a DNS name nor an IP address nor a URI" 64
    fi
}

# new_authority FOLDER NAME END [PATH-LENGTH]: an authority whose database is FOLDER/ca, with ca-cert.pem and ca-key.pem in FOLDER.
new_authority() {
    local folder=$1 name=$2 end=$3 limit=${4-,pathlen:0}
    mkdir -p "$folder/ca/issued"
    : >"$folder/ca/index.txt"
    echo 01 >"$folder/ca/crlnumber"
    # Paths are relative, so that the folder can be moved: run openssl ca in it.
    cat >"$folder/ca/openssl.cnf" <<CONFIGURATION
[ca]
default_ca = authority

[authority]
database = ca/index.txt
new_certs_dir = ca/issued
crlnumber = ca/crlnumber
certificate = ca-cert.pem
private_key = ca-key.pem
rand_serial = yes
unique_subject = no
default_md = sha256
default_crl_days = 30
policy = any_subject
x509_extensions = leaf

[any_subject]
commonName = supplied

[leaf]
basicConstraints = critical, CA:FALSE

[root]
basicConstraints = critical, CA:TRUE$limit
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CONFIGURATION
    new_request "$folder/ca-key.pem" "$folder/ca/request.pem" "$name"
    (
        cd "$folder"
        run_openssl ca -config ca/openssl.cnf -batch -notext -selfsign -extensions root \
            -startdate "$valid_from" -enddate "$end" -in ca/request.pem -out ca-cert.pem
    )
    rm "$folder/ca/request.pem"
    chmod 644 "$folder/ca-cert.pem"
}

# What certs/make-bad-certs sets to get what is wrong: kind of key, digest of the signature, key usage of a leaf.
key_kind=(ec -pkeyopt ec_paramgen_curve:P-256)
digest=sha256
key_usage=digitalSignature

# new_request KEY REQUEST COMMON-NAME: a new key (ECDSA P-256) and a request for it.
new_request() {
    local subject=${3//\//\\/}
    run_openssl req -new -newkey "${key_kind[@]}" -nodes -sha256 -batch \
        -subj "/CN=${subject:0:64}" -keyout "$1" -out "$2"
}

# issue FOLDER PREFIX USAGE START END NAME...: PREFIX-cert.pem and PREFIX-key.pem from the authority in FOLDER; USAGE is serverAuth,
# clientAuth, any, none or authority. Without names the certificate has no subjectAltName.
issue() {
    local folder=$1 prefix=$2 usage=$3 start=$4 end=$5
    shift 5
    local request=$folder/ca/request.pem extensions=$folder/ca/extensions.cnf number=0 name line
    {
        if [[ $usage == authority ]]; then
            echo "basicConstraints = critical, CA:TRUE"
            echo "keyUsage = critical, keyCertSign, cRLSign"
        else
            echo "basicConstraints = critical, CA:FALSE"
            echo "keyUsage = critical, $key_usage"
            case $usage in
                none) ;;
                any) echo "extendedKeyUsage = anyExtendedKeyUsage" ;;
                *) echo "extendedKeyUsage = $usage" ;;
            esac
        fi
        echo "subjectKeyIdentifier = hash"
        echo "authorityKeyIdentifier = keyid"
        if (($# > 0)); then
            echo "subjectAltName = @names"
            echo "[names]"
            for name in "$@"; do
                line=$(alternative_name "$name")
                echo "${line%% *}.$((number += 1)) = ${line#* }"
            done
        fi
    } >"$extensions"
    new_request "$folder/$prefix-key.pem" "$request" "${1-$prefix}"
    (
        cd "$folder"
        run_openssl ca -config ca/openssl.cnf -batch -notext -md "$digest" -extfile ca/extensions.cnf \
            -startdate "$start" -enddate "$end" -in ca/request.pem -out "$prefix-cert.pem"
    )
    rm "$request" "$extensions"
    chmod 644 "$folder/$prefix-cert.pem"
}
