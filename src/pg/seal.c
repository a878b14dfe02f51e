/*
 * seal.c
 *		Sealing of what nodes send each other, with the cluster's key.
 */
#include "seal.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/timestamp.h"

#include "guc.h"

#define KEY_BYTES   crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES   crypto_aead_xchacha20poly1305_ietf_ABYTES

#define KEYS_MAX       255
#define USES           2
#define FILE_BYTES_MAX 32768

StaticAssertDecl(DC_SEAL_OVERHEAD == 1 + NONCE_BYTES + TAG_BYTES,
				 "overhead is key id, nonce and tag");
StaticAssertDecl(KEY_BYTES == crypto_kdf_KEYBYTES, "subkeys are keys");

/* Only subkeys are kept; the keys of the file are wiped once read. */
typedef struct KeyRing
{
	bool loaded;
	uint8 sealing_id;                             /* the first line's */
	uint8 subkeys[KEYS_MAX + 1][USES][KEY_BYTES]; /* by id */
	bool present[KEYS_MAX + 1];
} KeyRing;

static KeyRing ring;
static TimestampTz ring_read_for; /* PgReloadTime when it was read */

static void
start_sodium(void)
{
	static bool started = false;

	if (started)
		return;
	if (sodium_init() < 0)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
						errmsg("could not initialize libsodium")));
	/* keeps keys out of swap and core files; where not allowed, go without */
	(void) sodium_mlock(&ring, sizeof(ring));
	started = true;
}

static char *
check_file(const char *path, int file)
{
	struct stat status;

	if (fstat(file, &status) != 0)
		return psprintf("could not stat key file \"%s\": %m", path);
	if (!S_ISREG(status.st_mode))
		return psprintf("key file \"%s\" is not a regular file", path);
	if (status.st_uid != geteuid())
		return psprintf("key file \"%s\" is not owned by the server's user",
						path);
	if ((status.st_mode & (S_IRWXG | S_IRWXO | S_IXUSR)) != 0)
		return psprintf("key file \"%s\" has permissions %04o, not 0600 or "
						"0400",
						path, (unsigned) status.st_mode & 07777);
	if (status.st_size >= FILE_BYTES_MAX)
		return psprintf("key file \"%s\" is too long", path);
	return NULL;
}

/* Adds the key of one line.  Never quotes it: it may hold part of a key. */
static char *
add_line(KeyRing *to, const char *path, int number, const char *line)
{
	uint8 key[KEY_BYTES];
	size_t key_length = 0;
	const char *end = NULL;
	char *rest;
	long id;

	while (*line == ' ' || *line == '\t')
		line++;
	if (*line == '\0' || *line == '#')
		return NULL;
	id = strtol(line, &rest, 10);
	if (rest == line || id < 1 || id > KEYS_MAX ||
		(*rest != ' ' && *rest != '\t'))
		return psprintf("line %d of key file \"%s\" does not begin with a key "
						"number from 1 to %d",
						number, path, KEYS_MAX);
	rest += strspn(rest, " \t");
	if (sodium_hex2bin(key, sizeof(key), rest, strlen(rest), NULL, &key_length,
					   &end) != 0 ||
		key_length != KEY_BYTES || end[strspn(end, " \t")] != '\0')
	{
		sodium_memzero(key, sizeof(key));
		return psprintf("key in line %d of key file \"%s\" is not made of 64 "
						"hexadecimal digits",
						number, path);
	}
	if (to->present[id] || sodium_is_zero(key, sizeof(key)))
	{
		sodium_memzero(key, sizeof(key));
		return psprintf("key in line %d of key file \"%s\" is %s", number, path,
						to->present[id] ? "numbered like an earlier one" :
										  "zero");
	}
	for (int use = 0; use < USES; use++)
		crypto_kdf_derive_from_key(to->subkeys[id][use], KEY_BYTES, use + 1,
								   "datacake", key);
	sodium_memzero(key, sizeof(key));
	to->present[id] = true;
	if (!to->loaded)
		to->sealing_id = (uint8) id;
	to->loaded = true;
	return NULL;
}

static char *
parse_file(KeyRing *to, const char *path, char *text)
{
	char *complaint = NULL;
	int number = 0;

	while (text != NULL && complaint == NULL)
	{
		char *line = strsep(&text, "\n");
		size_t length = strlen(line);

		if (length > 0 && line[length - 1] == '\r')
			line[length - 1] = '\0';
		complaint = add_line(to, path, ++number, line);
	}
	if (complaint == NULL && !to->loaded)
		complaint = psprintf("key file \"%s\" holds no key", path);
	return complaint;
}

/* Fills `to`, which is zero.  NULL, or what is wrong; then `to` is useless. */
static char *
read_ring(KeyRing *to)
{
	const char *path = datacake_cluster_key_file;
	char text[FILE_BYTES_MAX];
	char *complaint;
	ssize_t length;
	int file;

	start_sodium();
	if (path == NULL || path[0] == '\0')
		return pstrdup("\"datacake.cluster_key_file\" is not set");
	file = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (file < 0)
		return psprintf("could not open key file \"%s\": %m", path);
	complaint = check_file(path, file);
	if (complaint == NULL)
	{
		length = read(file, text, sizeof(text) - 1);
		if (length < 0)
			complaint = psprintf("could not read key file \"%s\": %m", path);
		else
		{
			text[length] = '\0';
			if (strlen(text) != (size_t) length)
				complaint =
					psprintf("key file \"%s\" is not a text file", path);
			else
				complaint = parse_file(to, path, text);
		}
		sodium_memzero(text, sizeof(text));
	}
	CloseTransientFile(file);
	return complaint;
}

char *
dc_seal_complaint(void)
{
	KeyRing *fresh = palloc0(sizeof(*fresh));
	char *complaint = read_ring(fresh);

	sodium_memzero(fresh, sizeof(*fresh));
	pfree(fresh);
	return complaint;
}

/* NULL, or what is wrong; then the ring in use stays. */
static char *
replace_ring(void)
{
	KeyRing *fresh = palloc0(sizeof(*fresh));
	char *complaint = read_ring(fresh);

	if (complaint == NULL)
		ring = *fresh;
	ring_read_for = PgReloadTime;
	sodium_memzero(fresh, sizeof(*fresh));
	pfree(fresh);
	return complaint;
}

#define KEY_FILE_HINT                                                          \
	errhint("\"datacake.cluster_key_file\" names a file of mode 0600, owned "  \
			"by the user who runs the server, with lines \"NUMBER KEY\", the " \
			"key as 64 hexadecimal digits.")

void
dc_seal_load(void)
{
	char *complaint = replace_ring();

	if (complaint != NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR),
						errmsg("%s", complaint), KEY_FILE_HINT));
}

/*
 * A long-lived process must see a rotation without being told, and must not
 * fall out of the cluster because somebody is halfway through editing.
 */
static void
refresh_ring(void)
{
	char *complaint;

	if (!ring.loaded)
		dc_seal_load();
	if (ring_read_for == PgReloadTime)
		return;
	complaint = replace_ring();
	if (complaint == NULL)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("%s", complaint),
			 errdetail("The keys read before stay in use."), KEY_FILE_HINT));
	pfree(complaint);
}

size_t
dc_seal_for(DcSealUse use, uint8 *out, const void *ad, size_t ad_length,
			const void *plain, size_t length)
{
	unsigned long long sealed_length;
	uint8 *nonce = out + 1;

	refresh_ring();
	out[0] = ring.sealing_id;
	randombytes_buf(nonce, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + NONCE_BYTES,
											   &sealed_length, plain, length,
											   ad, ad_length, NULL, nonce,
											   ring.subkeys[ring.sealing_id]
														   [use - 1]);
	return 1 + NONCE_BYTES + (size_t) sealed_length;
}

bool
dc_open_for(DcSealUse use, const uint8 *sealed, size_t length, const void *ad,
			size_t ad_length, uint8 *plain, size_t *plain_length)
{
	unsigned long long opened_length = 0;
	uint8 id;

	*plain_length = 0;
	refresh_ring();
	if (length < DC_SEAL_OVERHEAD)
		return false;
	id = sealed[0];
	if (!ring.present[id] ||
		crypto_aead_xchacha20poly1305_ietf_decrypt(plain, &opened_length, NULL,
												   sealed + 1 + NONCE_BYTES,
												   length - 1 - NONCE_BYTES, ad,
												   ad_length, sealed + 1,
												   ring.subkeys[id][use - 1]) !=
			0)
		return false;
	*plain_length = (size_t) opened_length;
	return true;
}

void
dc_seal_derive(const char *purpose, uint8 out[16])
{
	crypto_generichash_state state;

	start_sodium();
	crypto_generichash_init(&state, NULL, 0, 16);
	/* with its zero, so that no two pairs run together */
	crypto_generichash_update(&state, (const uint8 *) purpose,
							  strlen(purpose) + 1);
	crypto_generichash_update(&state, (const uint8 *) datacake_cluster_id,
							  strlen(datacake_cluster_id));
	crypto_generichash_final(&state, out, 16);
}
