/* libotr behind a line protocol on stdin and stdout, for the interoperability tests.
 *
 * Arguments: a directory for the key and the tag, and the versions to speak ("2", "3", "23").
 * Commands, one a line; bytes are hexadecimal, "-" is nothing; each is answered with reports and then "done":
 *   recv BYTES        a line came from the other side        say BYTES       send a text
 *   query             ask for OTR, or refresh                end             end the conversation
 *   smp BYTES BYTES   verify: secret, question or "-"        answer BYTES    answer a verification
 *   abort             give a verification up                 fragment N      longest line, 0 for no limit
 * Reports:
 *   fingerprint HEX   our own, at the start                  line BYTES      to be sent
 *   text private|clear BYTES                                 private HEX, refreshed HEX   begun, with whom
 *   instance HEX      the other's tag, before private
 *   finished          the other side ended                   asked BYTES     a verification; question or "-"
 *   smp same|different|aborted                               note WORDS      anything else worth reading
 */
#include <gcrypt.h>
#include <libotr/proto.h>
#include <libotr/userstate.h>
#include <libotr/instag.h>
#include <libotr/message.h>
#include <libotr/privkey.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ACCOUNT = "peer", *const PROTOCOL = "irc", *const OTHER = "us";
static OtrlUserState us;
static OtrlPolicy policy_bits = OTRL_POLICY_OPPORTUNISTIC & ~OTRL_POLICY_VERSION_MASK;
static char key_file[4096], tag_file[4096];
static int max_line;

static void report_bytes(const char *word, const char *bytes, size_t length)
{
    printf("%s ", word);
    if (length == 0) printf("-");
    for (size_t i = 0; i < length; i++) printf("%02x", (unsigned char)bytes[i]);
    printf("\n");
}

static char *from_hex(const char *hex)
{
    size_t length = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
    char *out = calloc(length + 1, 1);
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (char)byte;
    }
    return out;
}

static OtrlPolicy policy(void *data, ConnContext *context)
{
    return policy_bits;
}

static void create_privkey(void *data, const char *account, const char *protocol)
{
    otrl_privkey_generate(us, key_file, account, protocol);
}

static void create_instag(void *data, const char *account, const char *protocol)
{
    otrl_instag_generate(us, tag_file, account, protocol);
}

static int is_logged_in(void *data, const char *account, const char *protocol, const char *recipient)
{
    return 1;
}

static void inject(void *data, const char *account, const char *protocol, const char *recipient, const char *message)
{
    report_bytes("line", message, strlen(message));
}

static void gone_secure(void *data, ConnContext *context)
{
    if (context->protocol_version == 3) printf("instance %08x\n", context->their_instance);
    report_bytes("private", (const char *)context->active_fingerprint->fingerprint, 20);
}

static void still_secure(void *data, ConnContext *context, int is_reply)
{
    report_bytes("refreshed", (const char *)context->active_fingerprint->fingerprint, 20);
}

static int max_message_size(void *data, ConnContext *context)
{
    return max_line;
}

static const char *error_message(void *data, ConnContext *context, OtrlErrorCode code)
{
    return strdup("this message could not be read");
}

static void error_message_free(void *data, const char *message)
{
    free((char *)message);
}

static void smp_event(void *data, OtrlSMPEvent event, ConnContext *context, unsigned short percent, char *question)
{
    switch (event) {
    case OTRL_SMPEVENT_ASK_FOR_SECRET:
        printf("asked -\n");
        break;
    case OTRL_SMPEVENT_ASK_FOR_ANSWER:
        report_bytes("asked", question, strlen(question));
        break;
    case OTRL_SMPEVENT_SUCCESS:
        printf("smp same\n");
        break;
    case OTRL_SMPEVENT_FAILURE:
        printf("smp different\n");
        break;
    case OTRL_SMPEVENT_ABORT:
        printf("smp aborted\n");
        break;
    case OTRL_SMPEVENT_IN_PROGRESS:
        break;
    default:
        printf("note smp event %d\n", event);
        otrl_message_abort_smp(us, data, data, context);
    }
}

static void message_event(void *data, OtrlMessageEvent event, ConnContext *context, const char *message, gcry_error_t err)
{
    if (event == OTRL_MSGEVENT_RCVDMSG_UNENCRYPTED)
        report_bytes("text clear", message, strlen(message));
    else if (event != OTRL_MSGEVENT_LOG_HEARTBEAT_RCVD && event != OTRL_MSGEVENT_LOG_HEARTBEAT_SENT)
        printf("note message event %d\n", event);
}

static OtrlMessageAppOps ops = {
    .policy = policy,
    .create_privkey = create_privkey,
    .create_instag = create_instag,
    .is_logged_in = is_logged_in,
    .inject_message = inject,
    .gone_secure = gone_secure,
    .still_secure = still_secure,
    .max_message_size = max_message_size,
    .otr_error_message = error_message,
    .otr_error_message_free = error_message_free,
    .handle_smp_event = smp_event,
    .handle_msg_event = message_event,
};

static ConnContext *context(void)
{
    return otrl_context_find(us, OTHER, ACCOUNT, PROTOCOL, OTRL_INSTAG_BEST, 0, NULL, NULL, NULL);
}

static void receive(const char *line)
{
    char *text = NULL;
    OtrlTLV *tlvs = NULL;
    ConnContext *from = NULL;
    int internal =
        otrl_message_receiving(us, &ops, &ops, ACCOUNT, PROTOCOL, OTHER, line, &text, &tlvs, &from, NULL, NULL);
    const char *shown = text ? text : line;
    if (!internal) report_bytes(strncmp(line, "?OTR", 4) ? "text clear" : "text private", shown, strlen(shown));
    if (otrl_tlv_find(tlvs, OTRL_TLV_DISCONNECTED)) printf("finished\n");
    otrl_tlv_free(tlvs);
    otrl_message_free(text);
}

static void say(const char *text)
{
    char *line = NULL;
    gcry_error_t err = otrl_message_sending(us, &ops, &ops, ACCOUNT, PROTOCOL, OTHER, OTRL_INSTAG_BEST, text, NULL, &line,
        OTRL_FRAGMENT_SEND_ALL, NULL, NULL, NULL);
    if (err) printf("note sending failed: %s\n", gcry_strerror(err));
    else if (!line) report_bytes("line", text, strlen(text));
    otrl_message_free(line);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    if (strchr(argv[2], '2')) policy_bits |= OTRL_POLICY_ALLOW_V2;
    if (strchr(argv[2], '3')) policy_bits |= OTRL_POLICY_ALLOW_V3;
    snprintf(key_file, sizeof key_file, "%s/otr.key", argv[1]);
    snprintf(tag_file, sizeof tag_file, "%s/otr.tag", argv[1]);
    gcry_control(GCRYCTL_ENABLE_QUICK_RANDOM, 0);
    OTRL_INIT;
    us = otrl_userstate_create();
    if (otrl_privkey_read(us, key_file)) create_privkey(NULL, ACCOUNT, PROTOCOL);
    otrl_instag_read(us, tag_file);
    unsigned char fingerprint[20];
    if (!otrl_privkey_fingerprint_raw(us, fingerprint, ACCOUNT, PROTOCOL)) return 3;
    report_bytes("fingerprint", (const char *)fingerprint, sizeof fingerprint);

    static char line[1 << 20];
    do {
        printf("done\n");
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin)) break;
        char *word = strtok(line, " \n"), *first = strtok(NULL, " \n"), *second = strtok(NULL, " \n");
        char *one = from_hex(first ? first : "-"), *two = from_hex(second ? second : "-");
        if (!strcmp(word, "recv")) receive(one);
        else if (!strcmp(word, "say")) say(one);
        else if (!strcmp(word, "query")) {
            char *query = otrl_proto_default_query_msg(ACCOUNT, policy_bits);
            report_bytes("line", query, strlen(query));
            free(query);
        }
        else if (!strcmp(word, "end")) otrl_message_disconnect_all_instances(us, &ops, &ops, ACCOUNT, PROTOCOL, OTHER);
        else if (!strcmp(word, "smp") && *two)
            otrl_message_initiate_smp_q(us, &ops, &ops, context(), two, (unsigned char *)one, strlen(one));
        else if (!strcmp(word, "smp"))
            otrl_message_initiate_smp(us, &ops, &ops, context(), (unsigned char *)one, strlen(one));
        else if (!strcmp(word, "answer"))
            otrl_message_respond_smp(us, &ops, &ops, context(), (unsigned char *)one, strlen(one));
        else if (!strcmp(word, "abort")) otrl_message_abort_smp(us, &ops, &ops, context());
        else if (!strcmp(word, "fragment")) max_line = atoi(first);
        else return 4;
        free(one);
        free(two);
    } while (1);
    return 0;
}
