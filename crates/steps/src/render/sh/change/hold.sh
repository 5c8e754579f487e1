
#: write-hold
printf '%s\n' "$run" | durable "$hold"
#: write-drop-in
directory "${drop_in%/*}"
chmod 755 "${drop_in%/*}"
printf '%s\n' "$drop_in_text" | durable "$drop_in"
chmod 644 "$drop_in"
#: reload
systemctl daemon-reload
