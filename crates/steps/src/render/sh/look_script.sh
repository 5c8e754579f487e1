
# The status comes last, behind a newline of its own, so that no file is written for it.
raw=$({
	code=0
	timeout -k 2 "$script_seconds" sh -c "$script" 2>&1 </dev/null || code=$?
	printf '\n%d' "$code"
} | tail -c "$text_bytes" | tr -d '\000')
newline='
'
printf '{"exit":%d,"text":"%s"}\n' "${raw##*"$newline"}" "$(printf %s "${raw%"$newline"*}" | encode)"
