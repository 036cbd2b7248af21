import t from 'tap'
import { chmodSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { loadKubeConfig } from '../../../shared/kube/config.ts'

const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
const pemBase64 = Buffer.from(pem).toString('base64')

function kubeconfig(user: string, cluster = '', context = ''): string {
  return `apiVersion: v1
kind: Config
current-context: main
clusters:
- name: c1
  cluster:
    server: https://api.example:6443/
    certificate-authority-data: ${pemBase64}
${cluster}
users:
- name: u1
  user:
${user}
contexts:
- name: main
  context: {cluster: c1, user: u1${context}}
`
}

t.test('users are read in every form', async t => {
  const folder = t.testdir({ token: 'from-file\n', 'cert.pem': pem, 'key.pem': 'KEY' })
  const users: readonly (readonly [string, string, string | undefined])[] = [
    ['token', '    token: abc', 'Bearer abc'],
    ['token file, relative to the kubeconfig', '    tokenFile: token', 'Bearer from-file'],
    [
      'name and password',
      '    username: bob\n    password: pw',
      `Basic ${Buffer.from('bob:pw').toString('base64')}`
    ],
    ['certificate', '    client-certificate: cert.pem\n    client-key: key.pem', undefined],
    ['nobody', '    {}', undefined]
  ]
  for (const [name, user, authorization] of users) {
    const file = path.join(folder, 'config')
    writeFileSync(file, kubeconfig(user))
    const access = await loadKubeConfig({ kubeconfig: file })
    t.equal(await access.authorization(false), authorization, name)
    t.equal(access.server, 'https://api.example:6443')
    t.equal(access.tls.ca, pem)
    t.equal(access.tls.rejectUnauthorized, true)
    t.equal(access.tls.cert, name === 'certificate' ? pem : undefined)
    t.equal(access.tls.key, name === 'certificate' ? 'KEY' : undefined)
    t.equal(access.namespace, 'default')
  }
})

t.test('the first file of several wins, and a context can be chosen', async t => {
  const folder = t.testdir({
    one: kubeconfig(
      '    token: one',
      '    tls-server-name: inner\n    insecure-skip-tls-verify: true',
      ', namespace: shop'
    ),
    two: kubeconfig('    token: two').replace('- name: main', '- name: other')
  })
  const kubeconfigs = `${folder}/one:${folder}/two`
  const main = await loadKubeConfig({ kubeconfig: kubeconfigs })
  t.match(main, {
    context: 'main',
    namespace: 'shop',
    tls: { servername: 'inner', rejectUnauthorized: false }
  })
  const other = await loadKubeConfig({ kubeconfig: kubeconfigs, context: 'other' })
  t.equal(other.context, 'other')
  t.equal(await other.authorization(false), 'Bearer one', 'user u1 of the first file')
})

t.test('a kubeconfig that does not do is refused, naming the file and the field', async t => {
  const rows: readonly (readonly [string, string, RegExp, string?])[] = [
    ['not YAML', 'a: [1,', /config:1:\d+: .+/],
    ['a list', '- a', /config: not a kubeconfig/],
    ['empty', '', /expected one document, found 0/],
    ['no context', 'kind: Config', /no current-context; choose one with --context/],
    ['unknown context', kubeconfig('    {}'), /no context "prod" \(there are: main\)/, 'prod'],
    [
      'unknown cluster',
      kubeconfig('    {}').replace('cluster: c1,', 'cluster: c9,'),
      /context "main": no cluster "c9"/
    ],
    ['unknown user', kubeconfig('    {}').replace('user: u1', 'user: u9'), /context "main": no user "u9"/],
    [
      'bad server',
      kubeconfig('    {}').replace('https://api.example:6443/', 'api'),
      /cluster "c1": server "api" is not/
    ],
    ['proxy', kubeconfig('    {}', '    proxy-url: http://p'), /proxy-url is not supported/],
    [
      'half a certificate',
      kubeconfig(`    client-certificate-data: ${pemBase64}`),
      /user "u1": client-key is missing/
    ],
    [
      'certificate that is none',
      kubeconfig('    client-certificate-data: AAAA'),
      /client-certificate-data is not PEM/
    ],
    ['missing file', kubeconfig('    client-key: nowhere'), /cannot read client-key of .*ENOENT/],
    ['a token that is a number', kubeconfig('    token: 1'), /token is not a text/],
    ['auth-provider', kubeconfig('    auth-provider: {name: gcp}'), /use exec/],
    [
      'users that are no list',
      kubeconfig('    {}').replace(/users:[\s\S]*contexts:/, 'users: 5\ncontexts:'),
      /users is not a list/
    ],
    [
      'a user without a name',
      kubeconfig('    {}').replace('- name: u1\n  user', '- user'),
      /an entry of users has no name/
    ],
    ['exec without command', kubeconfig('    exec: {apiVersion: v1}'), /exec.command is missing/]
  ]
  for (const [name, text, message, context] of rows) {
    const file = path.join(t.testdir({ config: text }), 'config')
    await t.rejects(loadKubeConfig({ kubeconfig: file, context }), { name: 'KubeConfigError', message }, name)
  }
  await t.rejects(loadKubeConfig({ kubeconfig: '/nowhere/config' }), {
    message: /cannot read the kubeconfig: ENOENT/
  })
})

t.test('a pod uses its service account and reads its token again', async t => {
  const folder = t.testdir({ token: 'first', 'ca.crt': pem, namespace: 'istio-system\n' })
  const source = { serviceHost: 'fd00::1', servicePort: '6443', serviceAccountFolder: folder }
  const access = await loadKubeConfig(source)
  t.match(access, {
    server: 'https://[fd00::1]:6443',
    context: 'in-cluster',
    namespace: 'istio-system',
    tls: { ca: pem }
  })
  t.equal(await access.authorization(false), 'Bearer first')
  writeFileSync(path.join(folder, 'token'), 'second')
  t.equal(await access.authorization(false), 'Bearer first', 'kept for a while')
  t.equal(await access.authorization(true), 'Bearer second', 'but not when it was refused')
  await t.rejects(loadKubeConfig({ ...source, serviceAccountFolder: '/nowhere' }), {
    name: 'KubeConfigError'
  })
})

t.test('a credential command is run once, until its token expires', async t => {
  const folder = t.testdir({
    plugin: `#!/bin/sh
echo x >> calls
[ -n "$KUBERNETES_EXEC_INFO" ] || exit 3
[ "$FAIL" = "" ] || { echo 'log in first' >&2; exit 1; }
echo '{"status":{"token":"'$1-$WHO'","expirationTimestamp":"'$EXPIRES'"}}'
`
  })
  chmodSync(path.join(folder, 'plugin'), 0o755)
  const user = (env: string): string =>
    `    exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, args: [arg], installHint: get it, env: [${env}]}`
  const load = async (env: string) => {
    const file = path.join(folder, 'config')
    writeFileSync(file, kubeconfig(user(env)))
    return loadKubeConfig({ kubeconfig: file })
  }
  const lasting = await load('{name: WHO, value: me}, {name: EXPIRES, value: "2999-01-01T00:00:00Z"}')
  process.chdir(folder)
  t.equal(await lasting.authorization(false), 'Bearer arg-me')
  t.equal(await lasting.authorization(false), 'Bearer arg-me')
  t.equal((await import('node:fs')).readFileSync('calls', 'utf8'), 'x\n')
  await lasting.authorization(true)
  t.equal((await import('node:fs')).readFileSync('calls', 'utf8'), 'x\nx\n', 'renewed when refused')
  const failing = await load('{name: FAIL, value: "1"}')
  await t.rejects(failing.authorization(false), {
    message: /user "u1": .\/plugin failed: log in first\nget it/
  })
})
