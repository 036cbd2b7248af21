/*
 * The CNI plug-in: chained behind the primary network plug-in, it tells the node agent of each new pod before
 * anything in the pod runs, and passes the primary's result on unchanged.
 *
 * C because the container runtime starts it once per pod: it takes about a millisecond, where a Node start would
 * take fifty. It decides nothing that the agent could decide, reads no Kubernetes API and needs no token.
 *
 * Fails closed: while the agent does not answer, ADD fails with code 11 (try again later), except for the agent's
 * own pods and for excluded namespaces. Compiled with PASS_THROUGH it is what an uninstall leaves behind: it only
 * passes results on, so that a configuration which still names it keeps working.
 *
 * Source: CNI specification 1.1.0; the request is the one of Istio's plug-in (cni/pkg/plugin).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_INPUT = 1 << 20, MAX_NESTING = 64, ANSWER_SECONDS = 30 };
enum { BAD_ENVIRONMENT = 4, BAD_CONFIGURATION = 7, TRY_AGAIN_LATER = 11 }; /* codes of the CNI specification */

/* A JSON value as it stands in the input; start is NULL when it is not there. */
typedef struct { const char *start, *end; } Slice;

static Slice config;
static const Slice none = { NULL, NULL };

/* ---- reading JSON: values are found, never changed ---- */

static const char *skip_space(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}

static const char *skip_string(const char *p, const char *end) {
  for (p++; p < end; p++) {
    if (*p == '\\') p++;
    else if (*p == '"') return p + 1;
  }
  return NULL;
}

/* Returns the place behind the value that starts at p, or NULL when it is malformed. */
static const char *skip_value(const char *p, const char *end, int depth) {
  if (p >= end || depth > MAX_NESTING) return NULL;
  if (*p == '"') return skip_string(p, end);
  if (*p != '{' && *p != '[') {
    const char *start = p;
    while (p < end && (*p == '+' || *p == '-' || *p == '.' || (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || *p == 'E')) p++;
    return p > start ? p : NULL;
  }
  const char open = *p, close = open == '{' ? '}' : ']';
  p = skip_space(p + 1, end);
  if (p < end && *p == close) return p + 1;
  while (p < end) {
    if (open == '{') {
      if (*p != '"' || !(p = skip_string(p, end))) return NULL;
      p = skip_space(p, end);
      if (p >= end || *p != ':') return NULL;
      p = skip_space(p + 1, end);
    }
    if (!(p = skip_value(p, end, depth + 1))) return NULL;
    p = skip_space(p, end);
    if (p < end && *p == close) return p + 1;
    if (p >= end || *p != ',') return NULL;
    p = skip_space(p + 1, end);
  }
  return NULL;
}

/* The elements of an array or the member values of an object, one per call; *key is the member's name with its quotes. */
static Slice next(Slice of, const char **position, Slice *key) {
  if (!of.start || (*of.start != '[' && *of.start != '{')) return none;
  const char *p = skip_space(*position ? *position : of.start + 1, of.end);
  if (p < of.end && *p == ',') p = skip_space(p + 1, of.end);
  if (p >= of.end || *p == ']' || *p == '}') return none;
  if (*of.start == '{') {
    key->start = p;
    key->end = p = skip_string(p, of.end);
    p = skip_space(skip_space(p, of.end) + 1, of.end);
  }
  Slice value = { p, skip_value(p, of.end, 0) };
  *position = value.end;
  return value;
}

/* Whether a JSON text without escapes equals a C string. */
static bool is_text(Slice value, const char *text) {
  size_t length = strlen(text);
  return value.start && *value.start == '"' && (size_t)(value.end - value.start) == length + 2 &&
         memcmp(value.start + 1, text, length) == 0;
}

static Slice member(Slice object, const char *name) {
  const char *position = NULL;
  Slice key = none, value;
  if (!object.start || *object.start != '{') return none;
  while ((value = next(object, &position, &key)).start)
    if (is_text(key, name)) return value;
  return none;
}

/* Copies a JSON text without its quotes; false when it is absent, escaped or too long. */
static bool copy_text(Slice value, char *to, size_t size) {
  size_t length = value.start ? (size_t)(value.end - value.start) : 0;
  if (length < 2 || *value.start != '"' || length - 2 >= size || memchr(value.start, '\\', length)) return false;
  memcpy(to, value.start + 1, length - 2);
  to[length - 2] = 0;
  return true;
}

/* ---- answering the container runtime ---- */

static void print_quoted(const char *text) {
  putchar('"');
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') putchar('\\');
    putchar((unsigned char)*text < 0x20 ? ' ' : *text);
  }
  putchar('"');
}

static int fail(int code, const char *message, const char *details) {
  char version[16];
  if (!copy_text(member(config, "cniVersion"), version, sizeof version) || version[strspn(version, "0123456789.")])
    strcpy(version, "1.0.0");
  printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":", version, code);
  print_quoted(message);
  printf(",\"details\":");
  print_quoted(details);
  printf("}\n");
  return 1;
}

static int pass(void) {
  Slice previous = member(config, "prevResult");
  return fwrite(previous.start, 1, (size_t)(previous.end - previous.start), stdout) && putchar('\n') ? 0 : 1;
}

#ifndef PASS_THROUGH
/* ---- asking the node agent ---- */

static bool contains_text(Slice array, const char *text) {
  const char *position = NULL;
  Slice key = none, value;
  while ((value = next(array, &position, &key)).start)
    if (is_text(value, text)) return true;
  return false;
}

/* The value of NAME in CNI_ARGS ("K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop"); names of Kubernetes need no escaping. */
static bool argument(const char *name, char *to, size_t size) {
  const char *p = getenv("CNI_ARGS");
  size_t length = strlen(name);
  for (; p && *p; p = strchr(p, ';') ? strchr(p, ';') + 1 : NULL) {
    if (strncmp(p, name, length) != 0 || p[length] != '=') continue;
    size_t value = strcspn(p + length + 1, ";");
    if (value == 0 || value >= size || strspn(p + length + 1, "abcdefghijklmnopqrstuvwxyz0123456789-.") < value) return false;
    memcpy(to, p + length + 1, value);
    to[value] = 0;
    return true;
  }
  return false;
}

static bool send_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data += sent;
    length -= (size_t)sent;
  }
  return true;
}

/* POST /cmdadd; returns the HTTP status, or 0 when there was no answer. The answer's text is put into `text`. */
static int post(const char *socket_path, const char *body, size_t length, char *text, size_t size) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  struct timeval wait = { .tv_sec = ANSWER_SECONDS };
  char head[256];
  int status = 0, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
  int head_length = snprintf(head, sizeof head,
    "POST /cmdadd HTTP/1.1\r\nHost: node-agent\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && send_all(fd, head, (size_t)head_length) && send_all(fd, body, length)) {
    size_t filled = 0;
    ssize_t got = 0;
    while (filled < size - 1 && (got = recv(fd, text + filled, size - 1 - filled, 0)) > 0) filled += (size_t)got;
    text[filled] = 0;
    errno = got == 0 ? ECONNRESET : errno == EAGAIN ? ETIMEDOUT : errno; /* an agent that ended, or is stuck */
    if (sscanf(text, "HTTP/1.%*d %d", &status) != 1) status = 0;
    const char *content = strstr(text, "\r\n\r\n");
    if (status != 0) memmove(text, content ? content + 4 : "", strlen(content ? content + 4 : "") + 1);
  }
  if (status == 0) snprintf(text, size, "%s: %s", socket_path, strerror(errno));
  close(fd);
  return status;
}

static int announce(Slice addresses, const char *name, const char *namespace, const char *run_dir) {
  const char *netns = getenv("CNI_NETNS");
  const char *position = NULL;
  char socket_path[sizeof((struct sockaddr_un *)0)->sun_path], text[4096] = "", *body = NULL;
  size_t length = 0;
  if (!netns || strpbrk(netns, "\"\\\n")) return fail(BAD_ENVIRONMENT, "CNI_NETNS is missing or malformed", netns ? netns : "");
  if ((size_t)snprintf(socket_path, sizeof socket_path, "%s/pluginevent.sock", run_dir) >= sizeof socket_path)
    return fail(BAD_CONFIGURATION, "cni_agent_run_dir is too long for a socket's path", run_dir);

  FILE *out = open_memstream(&body, &length);
  if (!out) return fail(TRY_AGAIN_LATER, "out of memory", "");
  fprintf(out, "{\"Netns\":\"%s\",\"PodName\":\"%s\",\"PodNamespace\":\"%s\",\"IPs\":[", netns, name, namespace);
  Slice key = none, entry;
  for (bool first = true; (entry = next(addresses, &position, &key)).start; first = false) {
    Slice address = member(entry, "address");
    if (address.start) fprintf(out, "%s{\"Address\":%.*s}", first ? "" : ",", (int)(address.end - address.start), address.start);
  }
  fprintf(out, "]}");
  fclose(out);

  int status = post(socket_path, body, length, text, sizeof text);
  free(body);
  if (status == 200) return pass();
  return fail(TRY_AGAIN_LATER, status == 0 ? "the node agent does not answer; is the DaemonSet istio-cni-node running on this node?"
                                           : "the node agent did not enrol the pod; it is tried again", text);
}

static int add(void) {
  char name[256], namespace[256], own_namespace[256], run_dir[128] = "/var/run/istio-cni";
  const char *arguments = getenv("CNI_ARGS");
  if (!arguments || !strstr(arguments, "K8S_POD_N")) return pass(); /* not a pod of Kubernetes */
  if (!argument("K8S_POD_NAME", name, sizeof name) || !argument("K8S_POD_NAMESPACE", namespace, sizeof namespace))
    return fail(BAD_ENVIRONMENT, "CNI_ARGS names no pod", arguments);
  if (contains_text(member(config, "exclude_namespaces"), namespace)) return pass();
  if (copy_text(member(config, "pod_namespace"), own_namespace, sizeof own_namespace) && strcmp(namespace, own_namespace) == 0 &&
      strncmp(name, "istio-cni-node-", strlen("istio-cni-node-")) == 0)
    return pass();
  Slice folder = member(config, "cni_agent_run_dir");
  if (folder.start && !copy_text(folder, run_dir, sizeof run_dir)) return fail(BAD_CONFIGURATION, "cni_agent_run_dir: expected a short path", "");
  return announce(member(member(config, "prevResult"), "ips"), name, namespace, run_dir);
}
#else
static int add(void) { return pass(); }
#endif

int main(void) {
  static char input[MAX_INPUT];
  const char *command = getenv("CNI_COMMAND");
  if (!command) return fail(BAD_ENVIRONMENT, "CNI_COMMAND is missing: this program is started by a container runtime", "");
  if (strcmp(command, "VERSION") == 0) {
    puts("{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}");
    return 0;
  }
  if (strcmp(command, "ADD") != 0) return 0; /* DEL, CHECK, GC, STATUS: nothing of a pod is kept here */

  size_t length = fread(input, 1, sizeof input, stdin);
  const char *start = skip_space(input, input + length);
  const char *end = skip_value(start, input + length, 0);
  if (length == sizeof input || !end || *start != '{') return fail(BAD_CONFIGURATION, "standard input is no network configuration in JSON", "");
  config = (Slice){ start, end };
  if (!member(config, "prevResult").start) return fail(BAD_CONFIGURATION, "prevResult is missing: istio-cni must be chained behind a network plug-in", "");
  return add();
}
