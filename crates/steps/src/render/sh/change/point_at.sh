
#: write-override
mkdir -p "${override%/*}"
printf '%s\n' "$override_text" | durable "$override"
