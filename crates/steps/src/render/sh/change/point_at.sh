
#: write-override
directory "${override%/*}"
printf '%s\n' "$override_text" | durable "$override"
