/** GA-50: the certificate that a gateway shows to backends: what its status says of it, and who is sent it. */
import t from 'tap'
import { assignedAddresses } from '../../../controlplane/translate/gateway-address.ts'
import { gatewayReport } from '../../../controlplane/translate/gateway-report.ts'
import { translateGateway, translateSecret } from '../../../controlplane/translate/gateway.ts'
import { decodeConfigResource, encodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { readBackendCertificate, readGateway } from '../../../waypoint/gateway/gateway.ts'
import { gateway, keyPair, secret } from '../gateway-world.ts'
import { world } from '../world.ts'

const pair = keyPair()
const secrets =
  secret('good', pair) +
  secret('malformed', { certificate: 'Hello world', key: pair.key }) +
  secret('lent', pair, 'vault') +
  secret('kept', pair, 'vault') +
  `kind: ReferenceGrant
metadata: {name: lend, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: "", kind: Secret, name: lent}]
---
`

const situations: readonly {
  readonly name: string
  readonly reference: string
  /** Of ResolvedRefs; a `!` before one of False. */
  readonly reason: string
  /** Name of the Secret that is sent. */
  readonly sent?: string
}[] = [
  { name: 'a Secret', reference: '{name: good}', reason: 'ResolvedRefs', sent: 'shop/good' },
  {
    name: 'a Secret of another namespace, which lends it',
    reference: '{namespace: vault, name: lent}',
    reason: 'ResolvedRefs',
    sent: 'vault/lent'
  },
  {
    name: 'one that nobody lends',
    reference: '{namespace: vault, name: kept}',
    reason: '!RefNotPermitted'
  },
  { name: 'one that there is not', reference: '{name: none}', reason: '!InvalidClientCertificateRef' },
  { name: 'what is no certificate', reference: '{name: malformed}', reason: '!InvalidClientCertificateRef' },
  {
    name: 'another group',
    reference: '{group: wrong.group, kind: Secret, name: good}',
    reason: '!InvalidClientCertificateRef'
  },
  {
    name: 'another kind',
    reference: '{kind: ConfigMap, name: good}',
    reason: '!InvalidClientCertificateRef'
  }
]

for (const { name, reference, reason, sent } of situations) {
  t.test(name, async t => {
    const view = world(
      secrets +
        gateway('edge', ['{name: http, port: 80, protocol: HTTP}'], {
          more: `tls: {backend: {clientCertificateRef: ${reference}}}`
        })
    )
    const edge = view.get('Gateway', 'shop/edge')
    if (edge === undefined) throw new Error('no Gateway')
    const programmed = { kind: 'available', hostname: 'h' } as const
    const { conditions } = gatewayReport(view, edge, programmed, assignedAddresses(view, edge, 60_000))
    const said = conditions.find(({ type }) => type === 'ResolvedRefs')
    t.equal(`${said?.status === 'True' ? '' : '!'}${said?.reason}`, reason)
    t.match(conditions, [{ type: 'Accepted', status: 'True', reason: 'Accepted' }], 'it works all the same')
    const message = translateGateway(view, edge)?.message
    if (message === undefined) throw new Error('nothing is sent')
    const resource = decodeConfigResource(encodeConfigResource(message))
    t.equal(readGateway(resource).length, 1)
    t.equal(readBackendCertificate(resource), sent)
    const told = [...view.all('Secret')].filter(each => translateSecret(view, each) !== undefined)
    t.strictSame(
      told.map(({ meta }) => `${meta.namespace}/${meta.name}`),
      sent === undefined ? [] : [sent],
      'no other Secret leaves'
    )
  })
}

t.test('a Gateway that names none says nothing of it', async t => {
  const view = world(gateway('edge', ['{name: http, port: 80, protocol: HTTP}']))
  const edge = view.get('Gateway', 'shop/edge')
  if (edge === undefined) throw new Error('no Gateway')
  const programmed = { kind: 'available', hostname: 'h' } as const
  const { conditions } = gatewayReport(view, edge, programmed, assignedAddresses(view, edge, 60_000))
  t.strictSame(
    conditions.map(({ type }) => type),
    ['Accepted', 'Programmed']
  )
  t.strictSame(Object.keys(translateGateway(view, edge)?.message.spec ?? {}), ['listeners'])
})
