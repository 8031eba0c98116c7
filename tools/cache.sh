# Sourced: where downloads and guest images live, outside the repository. RHEA_IMAGES overrides.
cache=${RHEA_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/rhea}
mkdir -p "$cache"
