/** WasmPlugin and TrafficExtension. Source: Istio's published definitions (extensions.istio.io). */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { portNumber } from './names.ts'
import { checkSelection } from './selection.ts'

export function validateWasmPlugin(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelection(spec, findings)
  checkModule(spec, findings)
  checkMatch(spec, findings)
}

const longestLua = 65_536

export function validateTrafficExtension(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelection(spec, findings)
  if (spec.has('wasm') === spec.has('lua'))
    findings.error(spec.path, 'is not one extension', 'set wasm or lua')
  if (spec.has('wasm')) checkModule(spec.at('wasm'), findings)
  if (spec.has('lua')) {
    const lua = spec.at('lua')
    const size = Buffer.byteLength(lua.text('inlineCode'))
    if (size === 0) findings.error(lua.pathOf('inlineCode'), 'is missing', 'write the code')
    if (size > longestLua) findings.error(lua.pathOf('inlineCode'), 'is longer than 64 KiB', 'write less')
  }
  checkMatch(spec, findings)
}

const schemes = new Set(['file', 'http', 'https', 'oci'])
const longestSecret = 253
const longestText = 256

function checkModule(module: Fields, findings: Findings): void {
  const url = module.text('url')
  const [, scheme] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(url) ?? []
  const field = module.pathOf('url')
  if (url === '') findings.error(field, 'is missing', 'say where the module is')
  else if (scheme !== undefined && !schemes.has(scheme.toLowerCase())) {
    findings.error(field, `${scheme} is not supported`, 'use oci, https, http or file')
  } else if (!isAddress(url, scheme)) {
    findings.error(field, `${JSON.stringify(url)} is no address`, 'write it as oci://registry/image:tag')
  }
  const hash = module.text('sha256')
  if (hash !== '' && !/^[a-f0-9]{64}$/.test(hash)) {
    findings.error(module.pathOf('sha256'), 'is no SHA-256', 'write 64 small hexadecimal digits')
  }
  checkLength(module, 'imagePullSecret', longestSecret, findings)
  checkLength(module, 'pluginName', longestText, findings)
  checkEnvironment(module.at('vmConfig'), findings)
}

/** Without a scheme it is the place of an image. */
function isAddress(url: string, scheme: string | undefined): boolean {
  // eslint-disable-next-line no-control-regex -- which are just what an address may not hold
  if (/[\u0000- \u007f]/.test(url)) return false
  return URL.canParse(scheme === undefined ? `http://${url.replace(/^\/+/, 'h/')}` : url)
}

function checkLength(holder: Fields, name: string, most: number, findings: Findings): void {
  if (Buffer.byteLength(holder.text(name)) <= most) return
  findings.error(holder.pathOf(name), `is longer than ${most} characters`, 'shorten it')
}

function checkEnvironment(machine: Fields, findings: Findings): void {
  const names = new Set<string>()
  for (const variable of machine.list('env')) {
    const name = variable.text('name')
    const field = variable.pathOf('name')
    if (name === '') findings.error(field, 'is missing', 'name the variable')
    else if (names.has(name)) findings.error(field, `${name} is set twice`, 'set it once')
    names.add(name)
    checkLength(variable, 'name', longestText, findings)
    if (
      variable.oneOf('valueFrom', ['INLINE', 'HOST'], 'INLINE') === 'HOST' &&
      variable.text('value') !== ''
    ) {
      findings.error(variable.pathOf('value'), 'stands beside valueFrom HOST', 'keep one of them')
    }
  }
}

function checkMatch(spec: Fields, findings: Findings): void {
  for (const match of spec.list('match')) {
    for (const port of match.list('ports')) {
      findings.check(port.pathOf('number'), portNumber(port.number('number')))
    }
  }
}
