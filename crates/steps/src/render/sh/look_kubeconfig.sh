
if [ -r "$config/$name.yaml" ]; then
	printf '{"exit":0,"text":"%s"}\n' "$(head -c "$text_bytes" "$config/$name.yaml" | encode)"
else
	printf '{"exit":1,"text":"%s"}\n' "$(printf '%s does not exist' "$config/$name.yaml" | encode)"
fi
