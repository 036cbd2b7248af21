import t from 'tap'
import { formatRequirements, remedyFor, requirements } from '../../lab/check.ts'
import { enterWords, unshareWords } from '../../lab/isolate.ts'

const settings = (values: Record<string, string>) => (file: string) => values[file.split('/').at(-1) ?? '']

const remedies: readonly (readonly [
  claim: string,
  isRoot: boolean,
  values: Record<string, string>,
  remedy: RegExp
])[] = [
  [
    'AppArmor, as on Ubuntu',
    false,
    { apparmor_restrict_unprivileged_userns: '1' },
    /sysctl -w kernel.apparmor_restrict_unprivileged_userns=0/
  ],
  [
    'switched off, as on older Debian',
    false,
    { unprivileged_userns_clone: '0' },
    /sysctl -w kernel.unprivileged_userns_clone=1/
  ],
  ['none allowed', false, { max_user_namespaces: '0' }, /sysctl -w user.max_user_namespaces=/],
  ['something else', false, {}, /run the lab with sudo/],
  ['root without rights', true, {}, /lacks CAP_SYS_ADMIN; in a container, start it with --privileged/]
]

t.test('the fix for what restricts user namespaces is named', async t => {
  for (const [claim, isRoot, values, remedy] of remedies) {
    t.match(remedyFor('namespaces', isRoot, settings(values)), remedy, claim)
  }
  t.match(remedyFor('packet rules', true, settings({})), /lacks nftables, veth or bridge/)
})

t.test('a missing program is found before anything is tried', async t => {
  const found = await requirements({ isRoot: true, environment: { PATH: t.testdir() } })
  t.ok(found.length >= 2)
  const text = formatRequirements([
    { name: 'programs', ok: false, detail: 'missing: nft', remedy: 'sudo apt-get install -y nftables' },
    { name: 'system', ok: true, detail: 'linux', remedy: '' }
  ])
  t.equal(
    text,
    'FAIL  programs  missing: nft\n      fix: sudo apt-get install -y nftables\nok    system    linux'
  )
})

t.test('only who is not root gets a user namespace', async t => {
  t.notOk(unshareWords(true).includes('--user'))
  t.ok(unshareWords(false).includes('--map-root-user'))
  t.notOk(enterWords(true, 1).includes('--user'))
  t.ok(enterWords(false, 1).includes('--user'))
})
