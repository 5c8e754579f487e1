
case $file in
*/* | .*) die "$file is not the name of a recovery point" ;;
esac
[ -f "$points/$file" ] || die "$points/$file does not exist"
printf '{"total":%d,"text":"%s"}\n' "$(stat -c %s "$points/$file")" \
	"$(tail -c +$((offset + 1)) "$points/$file" | head -c "$part_bytes" | encode)"
