
api_version() { :; }
