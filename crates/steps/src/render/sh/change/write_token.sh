
umask 077
[ -f "$handed" ] || die "the token for this attempt is not at hand any more: the next attempt hands it again"
#: write-token
mkdir -p "${token_drop_in%/*}"
durable "$token_drop_in" <"$handed"
rm -f "$handed" "$handed.ca"
