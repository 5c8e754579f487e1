
unit_flag() { :; }

configured_by_unit() { :; }

datastore() { :; }
