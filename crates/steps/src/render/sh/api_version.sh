
api_version() { ask_api version | sed -n 's/.*"gitVersion" *: *"\([^"]*\)".*/\1/p' | head -n 1 | clean; }
