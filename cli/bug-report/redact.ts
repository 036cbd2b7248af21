/** Takes secrets out of what leaves the cluster. */

const removed = 'REDACTED'

/** Private keys also as they stand inside JSON, where lines end in `\n`. */
const privateKey = /-----BEGIN ([A-Z ]*)PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g
/** Three parts of base64 of which the first is a JSON object. */
const webToken = /\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*/g
const authorization = /\b(bearer|basic)(\s+)[\w+/=.~-]{8,}/gi
/** `password: x`, `"token": "x"`, `API_KEY=x`; paths and booleans are no secrets. */
const named =
  /(["']?[\w.-]*(?:password|passwd|secret_?key|api_?key|access_?key|client_?secret|private_?key|token)["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|[^\s,"'}/][^\s,"'}]*)/gi

export function redactText(text: string): string {
  return text
    .replaceAll(privateKey, `-----${removed} $1PRIVATE KEY-----`)
    .replaceAll(webToken, removed)
    .replaceAll(authorization, `$1$2${removed}`)
    .replaceAll(named, (whole, head: string, value: string) =>
      /^"?(\/.*|true|false|null|\{|\[|\d+)?"?$/.test(value) ? whole : `${head}"${removed}"`
    )
}

const secretNames = /PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|API_?KEY|PRIVATE_?KEY/i

/** An object of the cluster without bookkeeping; of a Secret only which keys it has, and how long they are. */
export function redactObject(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redactObject)
  if (!isRecord(value)) return typeof value === 'string' ? redactText(value) : value
  if (value['kind'] === 'Secret') return withoutContent(value)
  const entries = Object.entries(value).flatMap(([key, inner]): [string, unknown][] => {
    if (key === 'managedFields' || key === 'kubectl.kubernetes.io/last-applied-configuration') return []
    return [[key, redactObject(inner)]]
  })
  const copy = Object.fromEntries(entries)
  // a variable of a container
  if (
    typeof copy['name'] === 'string' &&
    typeof copy['value'] === 'string' &&
    secretNames.test(copy['name'])
  ) {
    return copy['value'].startsWith('/') ? copy : { ...copy, value: removed }
  }
  return copy
}

function withoutContent({ kind, apiVersion, metadata, type, data }: Record<string, unknown>): unknown {
  const lengths = Object.entries(isRecord(data) ? data : {}).map(([key, value]): [string, string] => [
    key,
    `${Buffer.from(String(value), 'base64').length} bytes`
  ])
  const { name, namespace, labels, creationTimestamp } = isRecord(metadata) ? metadata : {}
  return {
    apiVersion,
    kind,
    metadata: { name, namespace, labels, creationTimestamp },
    type,
    data: Object.fromEntries(lengths)
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
