
#: enable
systemctl enable "$unit.service"
