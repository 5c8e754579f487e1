
clean_lines() { tr -cd ' !#-[]-~\n'; }

# The lines of standard input as a JSON list of texts.
list() { clean_lines | awk 'BEGIN { printf "[" } { printf "%s\"%s\"", (NR > 1 ? "," : ""), $0 } END { printf "]" }'; }
