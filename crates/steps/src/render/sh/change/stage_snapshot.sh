
inflate() {
	if command -v unzip >/dev/null; then
		unzip -p "$1"
	elif command -v python3 >/dev/null; then
		python3 -c 'import shutil, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
shutil.copyfileobj(archive.open(archive.namelist()[0]), sys.stdout.buffer)' "$1"
	elif command -v busybox >/dev/null; then
		busybox unzip -p "$1"
	else
		refuse "neither unzip, python3 nor busybox is here to unpack $1: install one of them"
	fi
}

if [ -f "$to" ] && [ -f "$to.of" ] && [ "$(cat "$to.of")" = "$sha256" ] && trailer_fits "$to"; then
	echo "$to is staged already"
	exit 0
fi
#: verify-source
[ -f "$file" ] || refuse "$file does not exist"
[ "$(digest <"$file")" = "$sha256" ] || refuse "$file does not have the digest $sha256"
#: unpack
directory "${to%/*}"
rm -f "$to.of"
case $file in
*.zip) inflate "$file" >"$to.part" ;;
*) cp "$file" "$to.part" ;;
esac
#: verify-copy
trailer_fits "$to.part" || refuse "$file is not a whole etcd snapshot: its trailer does not fit"
flush "$to.part"
#: publish
mv -f "$to.part" "$to"
printf '%s\n' "$sha256" | durable "$to.of"
