/** Forms of names, labels and ports. Sources: RFC 1035, RFC 1123; Kubernetes, "Object Names and IDs". */
import { duplicate, invalidValue, required, type Problem } from '../api-error.ts'
import { isObject } from '../json.ts'

const label1123 = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const label1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const qualifiedName = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/
const portName = /^([a-z0-9]-?)*[a-z]([a-z0-9-]*[a-z0-9])?$/

export type NameForm = 'label' | 'label-1035' | 'subdomain' | 'path-segment'

const rules: Readonly<Record<NameForm, { max: number; test: (name: string) => boolean; detail: string }>> = {
  label: {
    max: 63,
    test: name => label1123.test(name),
    detail:
      "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
  },
  'label-1035': {
    max: 63,
    test: name => label1035.test(name),
    detail:
      "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
  },
  subdomain: {
    max: 253,
    test: name => subdomain.test(name),
    detail:
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
  },
  'path-segment': {
    max: 253,
    test: name => name !== '.' && name !== '..' && !/[/%]/.test(name),
    detail: "may not be '.', '..' or contain '/' or '%'"
  }
}

export function checkName(field: string, name: string, form: NameForm): Problem[] {
  const { max, test, detail } = rules[form]
  if (name.length > max) return [invalidValue(field, name, `must be no more than ${max} characters`)]
  return test(name) ? [] : [invalidValue(field, name, detail)]
}

/** `[prefix/]name`, as keys of labels and annotations and names of finalizers. */
export function checkQualifiedName(field: string, name: string): Problem[] {
  const slash = name.indexOf('/')
  const [prefix, short] = slash === -1 ? [undefined, name] : [name.slice(0, slash), name.slice(slash + 1)]
  if (prefix !== undefined && (prefix.length > 253 || !subdomain.test(prefix))) {
    return [invalidValue(field, name, 'prefix part must be a lowercase RFC 1123 subdomain')]
  }
  if (short.length === 0) return [invalidValue(field, name, 'name part must be non-empty')]
  if (short.length > 63) return [invalidValue(field, name, 'name part must be no more than 63 bytes')]
  if (qualifiedName.test(short)) return []
  const detail =
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
  return [invalidValue(field, name, detail)]
}

export function checkLabels(field: string, labels: unknown): Problem[] {
  if (!isObject(labels)) return []
  return Object.entries(labels).flatMap(([key, value]) => {
    const problems = checkQualifiedName(field, key)
    const text = String(value)
    if (text.length > 63) return [...problems, invalidValue(field, text, 'must be no more than 63 bytes')]
    if (labelValue.test(text)) return problems
    const detail =
      "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    return [...problems, invalidValue(field, text, detail)]
  })
}

export function checkPort(field: string, port: unknown): Problem[] {
  if (port === undefined) return [required(field)]
  if (Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 65535) return []
  return [invalidValue(field, port, 'must be between 1 and 65535, inclusive')]
}

/** RFC 6335: at most 15 lower case letters, digits and single hyphens, at least one letter. */
export function checkPortName(field: string, name: string): Problem[] {
  if (name.length > 15) return [invalidValue(field, name, 'must be no more than 15 characters')]
  if (name.includes('--')) return [invalidValue(field, name, 'must not contain consecutive hyphens')]
  if (portName.test(name)) return []
  const detail =
    'must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at least one letter (a-z), and must start and end with an alphanumeric character'
  return [invalidValue(field, name, detail)]
}

/** Reports every value that an earlier one equals. */
export function checkUnique(
  values: readonly { readonly field: string; readonly value: string }[]
): Problem[] {
  const seen = new Set<string>()
  return values.flatMap(({ field, value }) => {
    if (seen.has(value)) return [duplicate(field, value)]
    seen.add(value)
    return []
  })
}
