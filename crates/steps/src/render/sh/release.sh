
# What of a staged release is missing or wrong, one name per line.
release_faults() {
	sums=sha256sum-$arch.txt
	for file in install.sh "$artifact" "$sums"; do
		[ -s "$1/$file" ] || printf '%s\n' "$file"
	done
	[ ! -s "$1/install.sh" ] || sh -n "$1/install.sh" 2>/dev/null || printf 'install.sh\n'
	for file in "$artifact" "$images"; do
		if [ -s "$1/$file" ] && [ -s "$1/$sums" ]; then
			sum_fits "$1" "$file" || printf '%s\n' "$file"
		fi
	done
}

sum_fits() { [ "$(digest <"$1/$2")" = "$(sum_of "$1" "$2")" ]; }

sum_of() { awk -v file="$2" '$2 == file || $2 == "*" file { print $1 }' "$1/$sums" | head -n 1; }

host_arch() {
	case $(uname -m) in
	x86_64) printf amd64 ;;
	aarch64) printf arm64 ;;
	*) die "no release is known for $(uname -m)" ;;
	esac
}

if [ -z "$arch" ]; then arch=$(host_arch); fi
case $arch in
arm64) artifact=$artifact_arm64 images=$images_arm64 ;;
*) artifact=$artifact_amd64 images=$images_amd64 ;;
esac
