
#: script
printf '%s\n' "$script" | durable "$receipt/command"
bounded sh "$receipt/command"
