import t from 'tap'
import { parseSpiffeId, principalOf, spiffeId, spiffeParts } from '../../../shared/identity/spiffe-id.ts'

t.test('an identity is exactly trust domain, namespace and service account', async t => {
  for (const text of ['spiffe://cluster.local/ns/shop/sa/cart', 'spiffe:///ns/a/sa/b']) {
    t.equal(parseSpiffeId(text), text)
  }
  for (const text of [
    'spiffe://td/ns/a/sa/b/c',
    'spiffe://td/ns/a',
    'spiffe://td/ns//sa/b',
    'spiffe://td/sa/b/ns/a',
    'https://td/ns/a/sa/b',
    ''
  ]) {
    t.equal(parseSpiffeId(text), undefined, text)
  }
  const parts = { trustDomain: 'td', namespace: 'a', serviceAccount: 'b' }
  t.same(spiffeParts(spiffeId(parts)), parts)
  t.equal(principalOf(spiffeId(parts)), 'td/ns/a/sa/b')
})
