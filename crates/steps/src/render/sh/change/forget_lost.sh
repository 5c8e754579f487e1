
#: forget
for lost in $lost_hosts; do rm -f "$lost_marks/$lost"; done
if [ -d "$lost_marks" ]; then flush "$lost_marks"; fi
