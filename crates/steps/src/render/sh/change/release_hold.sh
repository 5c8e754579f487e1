
#: remove-hold
rm -f "$hold"
flush "$state"
