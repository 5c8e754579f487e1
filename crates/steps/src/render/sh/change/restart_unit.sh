
refuse_harmful_start
#: restart
systemctl reset-failed "$unit.service" 2>/dev/null || :
systemctl restart --no-block "$unit.service"
