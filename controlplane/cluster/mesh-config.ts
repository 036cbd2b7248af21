/** The mesh configuration: YAML under the key `mesh` of ConfigMap `istio`. Only what the mesh uses is read. */
import { parseYaml } from '../../shared/kube/yaml.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { FieldError, Fields } from '../read/fields.ts'
import { readSelector } from '../read/selector.ts'
import { pathNormalizations, type MeshSettings, type Visibility, type WaypointSettings } from './settings.ts'

export type MeshConfigResult =
  | { readonly kind: 'settings'; readonly settings: MeshSettings }
  | { readonly kind: 'problem'; readonly message: string }

const visibilities: readonly Visibility[] = ['PUBLIC', 'NAMESPACE', 'NONE']

/** What the text says, over the defaults; '' says nothing. */
export function readMeshConfig(text: string, defaults: MeshSettings): MeshConfigResult {
  try {
    const mesh = new Fields(text.trim() === '' ? {} : parseYaml(text, 'mesh configuration'), '')
    const extensionProviders = mesh.list('extensionProviders').map(provider => provider.json())
    return {
      kind: 'settings',
      settings: {
        ...defaults,
        rootNamespace: mesh.text('rootNamespace') || defaults.rootNamespace,
        trustDomain: mesh.text('trustDomain') || defaults.trustDomain,
        discoverySelectors: mesh.list('discoverySelectors').map(readSelector),
        serviceEntryVisibility: mesh.list('serviceEntryVisibility').map(rule => ({
          selector: readSelector(rule.at('namespaceSelector')),
          visibility: rule.oneOf('visibility', visibilities, 'PUBLIC')
        })),
        ruleExportTo: mesh.has('defaultDestinationRuleExportTo')
          ? mesh.texts('defaultDestinationRuleExportTo')
          : defaults.ruleExportTo,
        virtualServiceExportTo: mesh.has('defaultVirtualServiceExportTo')
          ? mesh.texts('defaultVirtualServiceExportTo')
          : defaults.virtualServiceExportTo,
        forWaypoints: {
          trustDomainAliases: mesh.texts('trustDomainAliases'),
          pathNormalization: mesh
            .at('pathNormalization')
            .oneOf('normalization', pathNormalizations, 'DEFAULT'),
          extensionProviders,
          ...accessLogSettings(mesh),
          ...tracingDefaults(mesh)
        },
        providerHosts: providerHosts(extensionProviders)
      }
    }
  } catch (error) {
    if (error instanceof FieldError) return { kind: 'problem', message: error.message }
    return { kind: 'problem', message: messageOf(error) }
  }
}

function accessLogSettings(mesh: Fields): Pick<WaypointSettings, 'accessLogFile' | 'accessLogEncoding'> {
  const accessLogFile = mesh.text('accessLogFile')
  const accessLogEncoding = mesh.oneOf('accessLogEncoding', ['TEXT', 'JSON'], 'TEXT')
  return {
    ...(accessLogFile !== '' && { accessLogFile }),
    ...(accessLogEncoding === 'JSON' && { accessLogEncoding })
  }
}

/** Only what is there: waypoints have defaults of their own. */
function tracingDefaults(mesh: Fields): Pick<WaypointSettings, 'defaultProviders' | 'defaultConfig'> {
  const tracing = mesh.at('defaultProviders').texts('tracing')
  const settings = mesh.at('defaultConfig').at('tracing')
  return {
    ...(tracing.length > 0 && { defaultProviders: { tracing } }),
    ...(settings.has('sampling') && { defaultConfig: { tracing: { sampling: settings.number('sampling') } } })
  }
}

/** Each names its service as `[namespace/]hostname`. */
function providerHosts(providers: WaypointSettings['extensionProviders']): ReadonlySet<string> {
  const hosts = providers.flatMap(provider =>
    Object.values(provider).flatMap(settings => {
      const { service } = (typeof settings === 'object' ? (settings ?? {}) : {}) as {
        readonly service?: unknown
      }
      return typeof service === 'string' ? [service.slice(service.indexOf('/') + 1)] : []
    })
  )
  return new Set(hosts)
}
