
install_release() {
	INSTALL_RKE2_ARTIFACT_PATH="$release" INSTALL_RKE2_TYPE="$role" INSTALL_RKE2_METHOD=tar INSTALL_RKE2_VERSION="$version" \
		INSTALL_RKE2_TAR_PREFIX="${bin%/bin}" INSTALL_RKE2_AGENT_IMAGES_DIR="$data/agent/images" \
		timeout -k 10 "$install_seconds" sh "$release/install.sh"
}
