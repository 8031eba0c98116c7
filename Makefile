# A front for meson: what a newcomer types.
#
#   make            build into build/
#   make run        install what is needed, build, boot a Debian guest in this terminal
#   make test       build and run the tests; SUITE=isa/x86 runs a part, SOAK=1 the long forms
#   make bench      Rhea against Debian's QEMU and native, medians and ratios; BENCH=boot runs a part
#   make install    PREFIX=/usr/local
#   make install-binfmt    foreign programs run by themselves (DESTDIR= for a package); then restart systemd-binfmt
#   make SAN=1 ...  the same with AddressSanitizer and UndefinedBehaviorSanitizer, in build-san/

BUILD := $(if $(SAN),build-san,build)
PREFIX ?= /usr/local
, := ,
# gcc warns of accesses that cannot be where it instruments them
SETUP := $(if $(SAN),-Db_sanitize=address$(,)undefined -Db_lundef=false -Dwerror=false) --prefix=$(PREFIX)
export CC := $(if $(shell command -v ccache),ccache gcc,gcc)

.PHONY: all deps run test bench install install-binfmt clean lint
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) $(if $(V),-v) | tail -n 20; exit $${PIPESTATUS[0]}
SHELL := /bin/bash

$(BUILD)/build.ninja: | deps
	@meson setup $(SETUP) $(BUILD) >/dev/null || meson setup $(SETUP) $(BUILD)

deps:
	@tools/deps.sh build

run: deps
	@tools/deps.sh guest
	@$(MAKE) --no-print-directory all
	@tools/run.sh

test: deps
	@tools/deps.sh guest test
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) SUITE="$(SUITE)" SOAK="$(SOAK)" tools/test.py

bench: deps
	@tools/deps.sh guest test bench
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) tests/bench/bench.py $(BENCH)

install: all
	@ninja -C $(BUILD) install

install-binfmt:
	@tools/binfmt.sh $(PREFIX)/bin/rhea-user $(DESTDIR)/usr/lib/binfmt.d

lint: all
	@git ls-files 'src/*.c' | xargs -r -n 8 -P 2 clang-tidy -p $(BUILD) --quiet

clean:
	rm -rf build build-san
