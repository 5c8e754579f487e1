
faults=$(release_faults "$release" | sort -u | clean_lines)
if [ -z "$faults" ]; then complete=true; else complete=false; fi
printf '{"complete":%s,"missing":%s}\n' "$complete" "$(printf %s "${faults:+$faults
}" | list)"
