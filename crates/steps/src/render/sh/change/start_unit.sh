
refuse_harmful_start
#: start
systemctl reset-failed "$unit.service" 2>/dev/null || :
systemctl start --no-block "$unit.service"
