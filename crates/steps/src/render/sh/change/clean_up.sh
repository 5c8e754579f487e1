
#: remove-override
rm -f "$override"
if [ -d "${override%/*}" ]; then flush "${override%/*}"; fi
#: remove-hold
rm -f "$hold"
flush "$state"
#: remove-drop-in
rm -f "$drop_in"
rmdir "${drop_in%/*}" 2>/dev/null || :
#: reload
systemctl daemon-reload
