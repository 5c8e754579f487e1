
url_of() {
	url=$template
	while :; do
		case $url in
		*'{file}'*) url=${url%%'{file}'*}$1${url#*'{file}'} ;;
		*) break ;;
		esac
	done
	printf %s "$url"
}

# What an earlier attempt got completely is not fetched again. Returns 2 when the source says that there is no such file.
get() {
	[ ! -s "$2" ] || return 0
	code=0
	status=$(curl --fail --silent --show-error --location --retry 5 --retry-delay 2 --connect-timeout 10 \
		--max-time "$fetch_seconds" --write-out '%{http_code}' --output "$2.part" "$1") || code=$?
	case $code:$status in
	0:*) mv -f "$2.part" "$2" ;;
	22:404 | 22:410 | 37:*) return 2 ;;
	*) return 1 ;;
	esac
}

fetch() {
	if [ -n "$directory" ]; then
		[ -f "$directory/$version/$1" ] || return 2
		cp "$directory/$version/$1" "$part/$1.part" && mv -f "$part/$1.part" "$part/$1"
	else
		get "$(url_of "$1")" "$part/$1"
	fi
}

# The installer is no file of the release on GitHub; there it comes from the source of the same tag.
fetch_installer() {
	fetch install.sh || { [ -n "$installer" ] && get "$installer" "$part/install.sh"; }
}

part=$release.part
if [ -z "$(release_faults "$release")" ]; then
	echo "$version is staged already"
	exit 0
fi
#: download
mkdir -p "$part"
if [ -e "$part/sha256sum-$arch.txt" ]; then
	for file in $(release_faults "$part" | sort -u); do rm -f "$part/$file"; done
fi
fetch "sha256sum-$arch.txt" || die "cannot get sha256sum-$arch.txt of $version"
fetch "$artifact" || die "cannot get $artifact of $version"
fetch_installer || die "cannot get install.sh of $version"
code=0
fetch "$images" || code=$?
case $code in
0) ;;
2) echo "there is no archive of images: the node pulls them" ;;
*) die "cannot get $images of $version" ;;
esac
#: verify
faults=$(release_faults "$part" | sort -u | tr '\n' ' ')
if [ -n "$faults" ]; then
	for file in $faults; do rm -f "$part/$file"; done
	die "checksum does not fit: $faults"
fi
#: publish
flush "$part"/*
rm -rf "$release"
mv "$part" "$release"
flush "$releases"
