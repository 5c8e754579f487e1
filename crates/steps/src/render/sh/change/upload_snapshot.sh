
#: verify-source
[ -f "$file" ] || refuse "$file does not exist"
[ "$(digest <"$file")" = "$sha256" ] || refuse "$file does not have the digest $sha256"
#: upload
transfer --output /dev/null --upload-file "$file"
