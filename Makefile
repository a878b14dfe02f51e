# Datacake for PostgreSQL: build, install, test, measure.  `make help` lists
# the targets.
#
# Two kinds of C live here and are compiled by two rules:
#
#   src/core/      pure C11.  No include path of the server or of a library is
#                  given, so that a stray #include fails the build.
#   src/pg/ and    the PostgreSQL side, compiled by PGXS with our warnings on
#   bgworker/      top.
#
# Everything that starts a server is a script below test/ or bench/; it builds
# what it needs by calling make again, once the packages are there.

.DEFAULT_GOAL := all

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

CORE_SRCS := $(sort $(wildcard src/core/*.c))
PG_SRCS := $(sort $(wildcard src/pg/*.c bgworker/*.c))
CORE_OBJS := $(CORE_SRCS:.c=.o)
PG_OBJS := $(PG_SRCS:.c=.o)

ifeq ($(CI),true)
WERROR := -Werror
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes

# The core: optimised, hidden, alone.  -ffp-contract=off because every node
# must compute the same numbers.
CORE_WARNINGS := $(WARNINGS) -Wpedantic -Wconversion
CORE_CFLAGS := -std=c11 -g -O2 -fPIC -fvisibility=hidden \
	-fno-omit-frame-pointer -fstack-protector-strong -ffp-contract=off
CORE_CPPFLAGS := -Isrc/core
DEPFLAGS := -MMD -MP

# ---- the extension (PGXS) ---------------------------------------------------

ifneq ($(wildcard $(PGXS)),)

MODULE_big = datacake
OBJS = $(CORE_OBJS) $(PG_OBJS)
EXTENSION = datacake
DATA = $(sort $(wildcard sql/datacake--*.sql))
HEADERS = $(wildcard src/pg/datacake_api.h)
PGFILEDESC = "datacake - leaderless replication"

# What `make installcheck` runs against a server that is already there (with
# the settings of test/regress/regress.conf).  `make test` needs no server.
REGRESS = $(basename $(notdir $(sort $(wildcard test/regress/sql/*.sql))))
REGRESS_OPTS = --inputdir=test/regress
ISOLATION = $(basename $(notdir $(sort $(wildcard test/isolation/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test/isolation
EXTRA_CLEAN = build $(OBJS:.o=.d) $(OBJS:.o=.bc)

# The server's headers do not compile cleanly with our warnings, so they are
# system headers; gcc then ignores the -I that PGXS gives for the same place.
PG_CPPFLAGS = -Isrc/core -Isrc/pg -Ibgworker \
	-isystem $(includedir_server) -isystem $(libpq_srcdir) \
	'-DPGDLLEXPORT=__attribute__((visibility("default")))' $(DEPFLAGS)
PG_CFLAGS = $(filter-out -Wall,$(WARNINGS)) -Wno-unused-parameter \
	-Wno-missing-field-initializers -fvisibility=hidden $(WERROR)
SHLIB_LINK = $(libpq) -lsodium

# Bitcode for the server's JIT costs more time than the whole build and cannot
# inline anything of ours.
override with_llvm = no

include $(PGXS)

else

all install installcheck:
	@echo "no PostgreSQL development files found by \"$(PG_CONFIG)\":" \
		"run \"make setup\" first, or set PG_CONFIG" >&2
	@exit 1

clean:
	rm -rf build $(CORE_OBJS) $(PG_OBJS) $(CORE_OBJS:.o=.d) $(PG_OBJS:.o=.d) datacake.so

endif

# Objects are rebuilt when the flags change (CI=true, another server).
FLAGS_TEXT := $(CC) $(WERROR) $(CORE_WARNINGS) $(CORE_CFLAGS) $(PGXS) $(VERSION) $(CORE_SRCS) $(PG_SRCS)

build/flags: FORCE
	@mkdir -p build
	@echo '$(FLAGS_TEXT)' | cmp -s - $@ || echo '$(FLAGS_TEXT)' >$@

FORCE:

$(PG_OBJS): build/flags

$(CORE_OBJS): src/core/%.o: src/core/%.c build/flags
	$(CC) $(CORE_CFLAGS) $(CORE_WARNINGS) $(WERROR) $(CORE_CPPFLAGS) $(DEPFLAGS) -c -o $@ $<

-include $(CORE_OBJS:.o=.d) $(PG_OBJS:.o=.d)

# The same library as another release would be: with other wire versions.
# build/wire-1-2/datacake.so speaks 1 and 2.
build/wire-%/version.o: src/core/version.c build/flags
	@mkdir -p $(@D)
	$(CC) $(CORE_CFLAGS) $(CORE_WARNINGS) $(WERROR) $(CORE_CPPFLAGS) \
		-DDC_WIRE_VERSION_MIN=$(firstword $(subst -, ,$*)) -DDC_WIRE_VERSION=$(lastword $(subst -, ,$*)) -c -o $@ $<

build/wire-%/datacake.so: build/wire-%/version.o $(filter-out src/core/version.o,$(CORE_OBJS)) $(PG_OBJS)
	$(CC) -shared -o $@ $^ $(LDFLAGS) $(SHLIB_LINK)

.PRECIOUS: build/wire-%/version.o

# ---- programs made of the core: unit tests, simulator, fuzzers --------------
#
# build/obj/VARIANT/core/*.o is the core compiled for one kind of program:
#
#   unit          ASan and UBSan
#   unit-canary   the same with -DDC_CANARIES, for the tests that ask for it
#   sim           optimised, with -DDC_CANARIES
#   coverage      the same for "make sim-coverage", with gcov
#   fuzz          clang, ASan, UBSan and coverage

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_CC := $(or $(CLANG),clang)

unit_cc := $(CC)
unit_flags := -O1 $(SANITIZE)
unit-canary_cc := $(CC)
unit-canary_flags := -O1 $(SANITIZE) -DDC_CANARIES
sim_cc := $(CC)
# what nobody has set is the same everywhere: a seed decides everything
STACK_PATTERN := $(shell $(CC) -ftrivial-auto-var-init=pattern -E -x c /dev/null >/dev/null 2>&1 && echo -ftrivial-auto-var-init=pattern)
sim_flags := -O2 -DDC_CANARIES $(STACK_PATTERN)
coverage_cc := $(CC)
coverage_flags := -O0 -DDC_CANARIES --coverage
fuzz_cc := $(FUZZ_CC)
fuzz_flags := -O1 -fsanitize=fuzzer-no-link $(SANITIZE)

CORE_NAMES := $(notdir $(CORE_SRCS:.c=.o))
PROGRAM_CFLAGS := -std=c11 -g -fno-omit-frame-pointer -ffp-contract=off

# $(call core_variant,NAME)
define core_variant
build/obj/$(1)/core/%.o: src/core/%.c build/flags
	@mkdir -p $$(@D)
	$$($(1)_cc) $(PROGRAM_CFLAGS) $$($(1)_flags) $(CORE_WARNINGS) $(WERROR) $(CORE_CPPFLAGS) $(DEPFLAGS) -c -o $$@ $$<
-include $(addprefix build/obj/$(1)/core/,$(CORE_NAMES:.o=.d))
endef
$(foreach v,unit unit-canary sim coverage fuzz,$(eval $(call core_variant,$(v))))

UNIT_SRCS := $(sort $(wildcard test/unit/test_*.c))
UNIT_CANARY_SRCS := $(shell grep -lF '/* also with: -DDC_CANARIES */' $(UNIT_SRCS) /dev/null)
UNIT_PROGRAMS := $(UNIT_SRCS:test/unit/%.c=build/unit/%) \
	$(UNIT_CANARY_SRCS:test/unit/%.c=build/unit-canary/%)

# $(call unit_program,VARIANT)
define unit_program
build/$(1)/test_%: test/unit/test_%.c $(addprefix build/obj/$(1)/core/,$(CORE_NAMES))
	@mkdir -p $$(@D)
	$$($(1)_cc) $(PROGRAM_CFLAGS) $$($(1)_flags) $(WARNINGS) $(WERROR) $(CORE_CPPFLAGS) -Itest/unit \
		$(DEPFLAGS) -MF $$@.d -o $$@ $$< $$(filter %.o,$$^) -lm
endef
$(foreach v,unit unit-canary,$(eval $(call unit_program,$(v))))
-include $(UNIT_PROGRAMS:=.d)

SIM_SRCS := $(sort $(wildcard test/sim/*.c))
SIM_OBJS := $(SIM_SRCS:test/sim/%.c=build/obj/sim/%.o)

build/obj/sim/%.o: test/sim/%.c build/flags
	@mkdir -p $(@D)
	$(CC) $(PROGRAM_CFLAGS) $(sim_flags) $(WARNINGS) $(WERROR) $(CORE_CPPFLAGS) $(DEPFLAGS) -c -o $@ $<

# Several nodes and the network between them.
CLUSTER_SRCS := $(sort $(wildcard test/sim/cluster/*.c))
CLUSTER_OBJS := $(CLUSTER_SRCS:test/sim/%.c=build/obj/sim/%.o)

build/obj/sim/cluster/%.o: test/sim/cluster/%.c build/flags
	@mkdir -p $(@D)
	$(CC) $(PROGRAM_CFLAGS) $(sim_flags) $(WARNINGS) $(WERROR) $(CORE_CPPFLAGS) $(DEPFLAGS) -c -o $@ $<

build/sim-cluster: $(CLUSTER_OBJS) $(addprefix build/obj/sim/core/,$(CORE_NAMES))
	$(CC) $(PROGRAM_CFLAGS) -o $@ $^ -lm
-include $(CLUSTER_OBJS:.o=.d)

# The agreed member list.
REGISTER_SRCS := $(sort $(wildcard test/sim/register/*.c))
REGISTER_OBJS := $(REGISTER_SRCS:test/sim/%.c=build/obj/sim/%.o)

build/obj/sim/register/%.o: test/sim/register/%.c build/flags
	@mkdir -p $(@D)
	$(CC) $(PROGRAM_CFLAGS) $(sim_flags) $(WARNINGS) $(WERROR) $(CORE_CPPFLAGS) $(DEPFLAGS) -c -o $@ $<

build/sim-register: $(REGISTER_OBJS) $(addprefix build/obj/sim/core/,$(CORE_NAMES))
	$(CC) $(PROGRAM_CFLAGS) -o $@ $^ -lm
-include $(REGISTER_OBJS:.o=.d)

# A thousand gossip state machines and nothing else of a node.
GOSSIP_SRCS := $(sort $(wildcard test/sim/gossip/*.c))
GOSSIP_OBJS := $(GOSSIP_SRCS:test/sim/%.c=build/obj/sim/%.o)

build/obj/sim/gossip/%.o: test/sim/gossip/%.c build/flags
	@mkdir -p $(@D)
	$(CC) $(PROGRAM_CFLAGS) $(sim_flags) $(WARNINGS) $(WERROR) $(CORE_CPPFLAGS) $(DEPFLAGS) -c -o $@ $<

build/sim-gossip: $(GOSSIP_OBJS) $(addprefix build/obj/sim/core/,$(CORE_NAMES))
	$(CC) $(PROGRAM_CFLAGS) -o $@ $^ -lm
-include $(GOSSIP_OBJS:.o=.d)

build/sim: $(SIM_OBJS) $(addprefix build/obj/sim/core/,$(CORE_NAMES))
	$(CC) $(PROGRAM_CFLAGS) -o $@ $^ -lm
-include $(SIM_OBJS:.o=.d)
$(SIM_OBJS): test/sim/seeds

# build/coverage/sim and build/coverage/sim-cluster, for "make sim-coverage".
# $(call sim_coverage,PROGRAM,SOURCES)
define sim_coverage
build/coverage/$(1): $(2) $(wildcard $(dir $(firstword $(2)))*.h test/sim/seeds) $(addprefix build/obj/coverage/core/,$(CORE_NAMES))
	@mkdir -p $$(@D)
	$(CC) $(PROGRAM_CFLAGS) $(coverage_flags) $(CORE_CPPFLAGS) -Itest/sim -o $$@ $$(filter %.c %.o,$$^) -lm
endef
CLUSTER_SIM_SRCS := $(sort $(wildcard test/sim/cluster/*.c))
$(eval $(call sim_coverage,sim,$(SIM_SRCS)))
$(if $(CLUSTER_SIM_SRCS),$(eval $(call sim_coverage,sim-cluster,$(CLUSTER_SIM_SRCS))))
$(if $(REGISTER_SRCS),$(eval $(call sim_coverage,sim-register,$(REGISTER_SRCS))))
SIM_COVERAGE := build/coverage/sim $(if $(REGISTER_SRCS),build/coverage/sim-register) $(if $(CLUSTER_SIM_SRCS),build/coverage/sim-cluster)

FUZZ_SRCS := $(sort $(wildcard test/fuzz/fuzz_*.c))
FUZZ_PROGRAMS := $(FUZZ_SRCS:test/fuzz/%.c=build/fuzz/%)

build/fuzz/fuzz_%: test/fuzz/fuzz_%.c $(addprefix build/obj/fuzz/core/,$(CORE_NAMES))
	@mkdir -p $(@D)
	$(FUZZ_CC) $(PROGRAM_CFLAGS) -O1 -fsanitize=fuzzer $(SANITIZE) $(WARNINGS) -Wno-missing-prototypes \
		$(WERROR) $(CORE_CPPFLAGS) -Itest/fuzz $(DEPFLAGS) -MF $@.d -o $@ $< $(filter %.o,$^) -lm
-include $(FUZZ_PROGRAMS:=.d)

# What bench/ measures of the core alone, compiled as it is in the server.
BENCH_SRCS := $(sort $(wildcard bench/*.c))
BENCH_PROGRAMS := $(BENCH_SRCS:bench/%.c=build/bench/%)

build/bench/%: bench/%.c $(CORE_OBJS)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -g -O2 $(WARNINGS) $(WERROR) $(CORE_CPPFLAGS) $(DEPFLAGS) -MF $@.d -o $@ $< $(CORE_OBJS) -lm

# A client.
build/bench/lag: bench/lag.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -g -O2 $(WARNINGS) $(WERROR) $(CPPFLAGS) -I$(libpq_srcdir) $(DEPFLAGS) -MF $@.d -o $@ $< $(libpq)
-include $(BENCH_PROGRAMS:=.d)

.PHONY: build-bench build-unit build-sim build-fuzz list-unit list-fuzz
build-bench: $(BENCH_PROGRAMS)
build-unit: $(UNIT_PROGRAMS)
build-sim: $(if $(SIM_SRCS),build/sim) $(if $(CLUSTER_SRCS),build/sim-cluster) $(if $(REGISTER_SRCS),build/sim-register) $(if $(GOSSIP_SRCS),build/sim-gossip)
build-fuzz: $(FUZZ_PROGRAMS)
list-unit: ; @printf '%s\n' $(UNIT_PROGRAMS)
list-fuzz: ; @printf '%s\n' $(FUZZ_PROGRAMS)

# ---- targets for people -----------------------------------------------------

SUITES := build unit sim fuzz regress isolation tap format

.PHONY: setup test $(addprefix test-,$(SUITES)) demo demo-stop bench \
	bench-quick soak gossip-curves sim-coverage matrix tidy format format-check help

export PG_CONFIG

setup:
	@test/setup

# The scripts call make again, with the variables given here; see common.sh.
test:
	@test/run

$(addprefix test-,$(SUITES)):
	@test/run $(@:test-%=%)

demo:
	@test/demo/run

demo-stop:
	@test/demo/stop

bench:
	@bench/run && bench/join && bench/back && bench/idle && bench/levels && bench/rivals && bench/rivals --peers 2 && bench/plot

bench-quick:
	@bench/rivals --quick

soak:
	@test/soak $(PARTS)

# doc/gossip-curves.svg and .png, and the numbers they show.
gossip-curves:
	@test/sim/gossip/curves

# Which lines and branches of the core the simulators reach.
sim-coverage: $(SIM_COVERAGE)
	@test/lib/coverage $(SIM_COVERAGE)

matrix:
	@echo "\"make $@\" is not there yet" >&2
	@exit 1

C_FILES := $(sort $(wildcard src/*/*.[ch] bgworker/*.[ch] test/*/*.[ch] test/sim/*/*.[ch] bench/*.[ch]))
CLANG_FORMAT ?= clang-format-14
CLANG_TIDY ?= clang-tidy-14
TIDY_CHECKS := -*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-macro-parentheses,clang-analyzer-*,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling

format:
	$(if $(C_FILES),$(CLANG_FORMAT) -i $(C_FILES))

format-check:
	$(if $(C_FILES),$(CLANG_FORMAT) --dry-run -Werror $(C_FILES))

tidy:
	$(CLANG_TIDY) --quiet --warnings-as-errors='*' --checks='$(TIDY_CHECKS)' $(CORE_SRCS) -- -std=c11 $(CORE_CPPFLAGS)
	$(if $(PG_SRCS),$(CLANG_TIDY) --quiet --warnings-as-errors='*' --checks='$(TIDY_CHECKS)' $(PG_SRCS) -- $(CPPFLAGS))

help:
	@echo 'make                 build the extension'
	@echo 'make install         install it into the server that PG_CONFIG names'
	@echo 'make setup           install the packages that are missing (root or sudo)'
	@echo 'make demo            three nodes, real data, one of them killed on the way'
	@echo '                     (KEEP=1 leaves them running)'
	@echo 'make demo-stop       end what "make demo KEEP=1" left running'
	@echo 'make test            every test; ends in "N passed, N failed"'
	@echo 'make test-SUITE      one of: $(SUITES)'
	@echo '                     (T=NAME: only tests whose name contains NAME; V=1: show'
	@echo '                     all output; KEEP=1: keep the data directories)'
	@echo 'make installcheck    regression and isolation tests in a running server'
	@echo 'make bench           measure, everything; bench-quick: against the rivals, smaller'
	@echo 'make format          format the C files; format-check: only look'
	@echo 'make tidy            clang-tidy'
	@echo 'make clean           remove what was built'
	@echo 'make soak            the long tests (PARTS="kill partition": only these); the'
	@echo '                     variables that set their length are in test/soak'
	@echo 'make gossip-curves   doc/gossip-curves.*, from the simulator (10 minutes; gnuplot)'
	@echo 'make sim-coverage    which lines of the core the simulators reach; fails if not all'
	@echo 'make matrix          not there yet'
