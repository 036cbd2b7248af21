/**
 * Users of a kubeconfig whose token comes from a command, as managed Kubernetes services hand them out.
 * Source: Kubernetes, client-go credential plugins (client.authentication.k8s.io).
 */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { KubeConfigError } from './errors.ts'

export interface ExecCommand {
  readonly where: string
  readonly apiVersion: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly installHint: string
}

/** Longest time a credential command may take; browser log-ins are part of some. */
const timeoutMs = 120_000
/** A token is replaced this long before it expires. */
const marginMs = 30_000

export function readExecCommand(value: unknown, where: string): ExecCommand {
  const exec = value as Readonly<Record<string, unknown>>
  const { command, apiVersion, args = [], env = [], installHint } = exec
  if (typeof command !== 'string' || command === '')
    throw new KubeConfigError(`${where}: exec.command is missing`)
  if (typeof apiVersion !== 'string') throw new KubeConfigError(`${where}: exec.apiVersion is missing`)
  if (!Array.isArray(args) || !Array.isArray(env)) {
    throw new KubeConfigError(`${where}: exec.args and exec.env must be lists`)
  }
  return {
    where,
    apiVersion,
    command,
    args: args.map(String),
    env: Object.fromEntries(env.map((pair: { name?: unknown; value?: unknown }) => [pair.name, pair.value])),
    installHint: typeof installHint === 'string' ? installHint : ''
  }
}

/** The value of the header `authorization`, kept until shortly before its token expires. */
export function execToken(exec: ExecCommand, kubeconfig: string): (refresh: boolean) => Promise<string> {
  let current: Promise<{ readonly token: string; readonly expires: number }> | undefined
  return async refresh => {
    let credential = refresh ? undefined : await current?.catch(() => undefined) // a failed one is tried again
    if (credential === undefined || credential.expires - marginMs < Date.now()) {
      current = runCommand(exec, kubeconfig)
      credential = await current
    }
    return `Bearer ${credential.token}`
  }
}

async function runCommand(
  exec: ExecCommand,
  kubeconfig: string
): Promise<{ token: string; expires: number }> {
  const request = { apiVersion: exec.apiVersion, kind: 'ExecCredential', spec: { interactive: false } }
  const output = await new Promise<string>((resolve, reject) => {
    const file = exec.command.includes('/')
      ? path.resolve(path.dirname(kubeconfig), exec.command)
      : exec.command
    const variables = Object.entries({ ...exec.env, KUBERNETES_EXEC_INFO: JSON.stringify(request) })
    // `env` adds to the environment of this process without this file reading it
    const args = [...variables.map(([name, value]) => `${name}=${value}`), file, ...exec.args]
    execFile('env', args, { timeout: timeoutMs, maxBuffer: 1 << 20 }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout)
      const hint = exec.installHint === '' ? '' : `\n${exec.installHint}`
      reject(
        new KubeConfigError(`${exec.where}: ${exec.command} failed: ${stderr.trim() || error.message}${hint}`)
      )
    })
  })
  return readCredential(output, exec)
}

function readCredential(output: string, exec: ExecCommand): { token: string; expires: number } {
  let credential: { status?: { token?: unknown; expirationTimestamp?: unknown } }
  try {
    credential = JSON.parse(output) as typeof credential
  } catch (error) {
    throw new KubeConfigError(`${exec.where}: ${exec.command} did not print JSON`, { cause: error })
  }
  const { token, expirationTimestamp } = credential.status ?? {}
  if (typeof token !== 'string' || token === '') {
    throw new KubeConfigError(
      `${exec.where}: ${exec.command} gave no token (client certificates are not supported)`
    )
  }
  const expires = typeof expirationTimestamp === 'string' ? Date.parse(expirationTimestamp) : NaN
  return { token, expires: Number.isNaN(expires) ? Infinity : expires }
}
