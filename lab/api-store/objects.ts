/**
 * What the API does with objects, whoever asks: decode, default, admit, validate, record ownership, store.
 * All calls are synchronous; a refusal is an ApiError and changes nothing.
 */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../../shared/runtime/clock.ts'
import { alreadyExists, badRequest, forbidden, invalid, notFound, type Problem } from './api-error.ts'
import { customStrategy } from './custom-resources.ts'
import type { Dependents } from './dependents.ts'
import { confineUpdate, countGeneration, statusApart } from './confine.ts'
import { decideDeletion, mayGo, type DeletionRequest } from './deletion.ts'
import {
  checkGivenName,
  checkGivenNamespace,
  checkGivenUid,
  checkGivenVersion,
  checkSize,
  checkVersionGiven,
  decodeObject
} from './incoming.ts'
import { clone, equal, isObject, objectOf, textOf, type JsonObject, type MutableObject } from './json.ts'
import { checkMetadata, checkMetadataUpdate } from './kinds/metadata.ts'
import { randomSuffix } from './kinds/generated-name.ts'
import type { KindContext, Strategy } from './kinds/strategy.ts'
import { timestamp, type ApiObject, type Metadata, type ObjectKey } from './object.ts'
import {
  ownable,
  ownersAfterUpdate,
  readOwners,
  writeOwners,
  type Manager,
  type Owners,
  type Writing
} from './patch/managed-fields.ts'
import { applyConfiguration } from './patch/server-side-apply.ts'
import { apiVersionOf, type Resource, type ResourceRegistry } from './resources.ts'
import { checkRequired } from './schema/required.ts'
import type { Collection, Storage } from './storage.ts'
import { presented, stored } from './stored-form.ts'
import type { Deleted, WriteContext, Written } from './write-context.ts'

export class ApiObjects {
  readonly storage: Storage
  readonly registry: ResourceRegistry
  readonly #strategies: ReadonlyMap<string, Strategy>
  readonly #customStrategies = new WeakMap<Resource, Strategy>()
  readonly #clock: Clock
  readonly #dependents: Dependents

  constructor(options: {
    readonly storage: Storage
    readonly registry: ResourceRegistry
    readonly strategies: ReadonlyMap<string, Strategy>
    readonly clock: Clock
    readonly dependents: Dependents
  }) {
    this.storage = options.storage
    this.registry = options.registry
    this.#strategies = options.strategies
    this.#clock = options.clock
    this.#dependents = options.dependents
  }

  collection(resource: Resource): Collection {
    return this.storage.collection(resource.collection)
  }

  get(resource: Resource, key: ObjectKey): ApiObject {
    const found = this.find(resource, key)
    if (found === undefined) throw notFound(resource, key.name)
    return found
  }

  find(resource: Resource, key: ObjectKey): ApiObject | undefined {
    const found = this.collection(resource).get(key)
    return found === undefined ? undefined : presented(resource, found)
  }

  create(resource: Resource, namespace: string, body: JsonObject, write: WriteContext): ApiObject {
    const object = decodeObject(resource, body, write)
    const prepared = this.#prepareCreate(resource, namespace, object)
    this.#admitToNamespace(resource, prepared)
    const strategy = this.#strategy(resource)
    strategy.setDefaults?.(prepared)
    strategy.prepareCreate?.(prepared, this.#context())
    const owners = ownersAfterUpdate(
      new Map(),
      {},
      this.#ownable(resource, prepared, write),
      this.#writing(resource, write)
    )
    return this.#insert(resource, withOwners(prepared as unknown as ApiObject, owners), write)
  }

  /** Replaces the object; where there is none it is created, for the few kinds that allow it, else 404. */
  update(resource: Resource, key: ObjectKey, body: JsonObject, write: WriteContext): Written {
    const current = this.find(resource, key)
    if (current === undefined) {
      if (this.#strategy(resource).createOnUpdate !== true || write.subresource !== '')
        throw notFound(resource, key.name)
      checkGivenName(objectOf(body['metadata']), key.name)
      return { object: this.create(resource, key.namespace, body, write), created: true }
    }
    const object = decodeObject(resource, body, write)
    const metadata = objectOf(object['metadata'])
    checkGivenName(metadata, key.name)
    checkGivenNamespace(resource, key.namespace, metadata)
    checkVersionGiven(resource, key.name, metadata['resourceVersion'])
    checkGivenVersion(resource, current, metadata['resourceVersion'])
    checkGivenUid(resource, current, metadata['uid'])
    return { object: this.#replace(resource, current, object, write), created: false }
  }

  /** Writes what `change` makes of the current object, which it must not change itself. */
  patch(
    resource: Resource,
    key: ObjectKey,
    change: (current: ApiObject) => unknown,
    write: WriteContext
  ): ApiObject {
    const current = this.get(resource, key)
    const changed = change(current)
    if (!isObject(changed)) throw badRequest('the patch does not leave an object')
    const object = decodeObject(resource, changed, write)
    const metadata = objectOf(object['metadata'])
    if (metadata['name'] !== key.name) throw badRequest('the name of the object may not be patched')
    checkGivenVersion(resource, current, metadata['resourceVersion'])
    return this.#replace(resource, current, object, write)
  }

  apply(
    resource: Resource,
    key: ObjectKey,
    body: JsonObject,
    write: WriteContext & { readonly force: boolean }
  ): Written {
    const configuration = decodeObject(resource, body, write) as unknown as ApiObject
    const { name = key.name, resourceVersion, managedFields } = objectOf(configuration.metadata)
    checkGivenName({ name }, key.name)
    if (managedFields !== undefined && !equal(managedFields, []))
      throw badRequest('metadata.managedFields must be nil')
    checkGivenNamespace(resource, key.namespace, objectOf(configuration.metadata))
    const wanted = ownable(configuration, write.subresource === 'status' || !statusApart(resource))
    const current = this.find(resource, key)
    const writing = { ...this.#writing(resource, write), manager: this.#manager(resource, write, 'Apply') }
    if (current === undefined) {
      if (write.subresource !== '') throw notFound(resource, key.name)
      const named = { ...configuration, metadata: { ...configuration.metadata, name: key.name } }
      return {
        object: this.#createApplied(resource, key.namespace, named, wanted, writing, write),
        created: true
      }
    }
    checkGivenVersion(resource, current, resourceVersion)
    const owners = readOwners(current.metadata.managedFields)
    const applied = applyConfiguration(current, wanted, owners, writing, write.force)
    const object = clone<MutableObject>(applied.object)
    return { object: this.#replace(resource, current, object, write, applied.owners), created: false }
  }

  delete(resource: Resource, key: ObjectKey, request: DeletionRequest, dryRun = false): Deleted {
    const current = this.get(resource, key)
    const hasDependents = (): boolean => this.#dependents.of(current.metadata.uid).length > 0
    const decision = decideDeletion(resource, current, request, this.#clock.now(), hasDependents)
    switch (decision.kind) {
      case 'remove':
        return {
          object: dryRun
            ? current
            : presented(resource, this.collection(resource).remove(stored(resource, current))),
          gone: true
        }
      case 'mark': {
        const marked = stored(resource, decision.object)
        return {
          object: dryRun ? decision.object : presented(resource, this.collection(resource).put(marked)),
          gone: false
        }
      }
      case 'wait':
        return { object: current, gone: false }
      default:
        return decision satisfies never
    }
  }

  /** Sets the finalizers of a namespace's spec; without any, a namespace that is being deleted goes. */
  finalizeNamespace(resource: Resource, key: ObjectKey, finalizers: readonly string[]): ApiObject {
    const current = this.get(resource, key)
    const next = { ...current, spec: { finalizers } }
    const { deletionTimestamp, finalizers: others = [] } = current.metadata
    const collection = this.collection(resource)
    if (deletionTimestamp === undefined || finalizers.length > 0 || others.length > 0) {
      return equal(next, current) ? current : collection.put(next)
    }
    return collection.remove(next)
  }

  #prepareCreate(resource: Resource, namespace: string, object: MutableObject): MutableObject {
    const given = objectOf(object['metadata'])
    checkGivenNamespace(resource, namespace, given)
    if (textOf(given['resourceVersion']) !== '')
      throw badRequest('resourceVersion should not be set on objects to be created')
    const {
      managedFields: _owners,
      deletionTimestamp: _deleted,
      deletionGracePeriodSeconds: _grace,
      ...kept
    } = given
    const name =
      textOf(given['name']) || this.#generateName(resource, namespace, textOf(given['generateName']))
    const metadata: MutableObject = {
      ...kept,
      name,
      ...(resource.namespaced ? { namespace } : {}),
      uid: randomUUID(),
      creationTimestamp: timestamp(this.#clock.now())
    }
    if (this.#strategy(resource).generation === true) metadata['generation'] = 1
    else delete metadata['generation']
    const prepared: MutableObject = { ...object, metadata }
    if (statusApart(resource) && resource.plural !== 'nodes') {
      delete prepared['status']
      if (resource.origin === 'builtin') prepared['status'] = {}
    }
    return prepared
  }

  #generateName(resource: Resource, namespace: string, prefix: string): string {
    if (prefix === '') return ''
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const name = prefix.slice(0, 58) + randomSuffix()
      if (this.collection(resource).get({ namespace, name }) === undefined) return name
    }
    throw alreadyExists(resource, prefix)
  }

  #createApplied(
    resource: Resource,
    namespace: string,
    configuration: ApiObject,
    wanted: JsonObject,
    writing: Writing,
    write: WriteContext
  ): ApiObject {
    const prepared = this.#prepareCreate(resource, namespace, clone<JsonObject>(configuration))
    this.#admitToNamespace(resource, prepared)
    const strategy = this.#strategy(resource)
    strategy.setDefaults?.(prepared)
    strategy.prepareCreate?.(prepared, this.#context())
    const { owners } = applyConfiguration({}, wanted, new Map(), writing, true)
    return this.#insert(resource, withOwners(prepared as unknown as ApiObject, owners), write)
  }

  #insert(resource: Resource, object: ApiObject, write: WriteContext): ApiObject {
    const namespace = object.metadata.namespace ?? ''
    const strategy = this.#strategy(resource)
    this.#refuseInvalid(resource, object, [
      ...checkMetadata(object, strategy.nameForm ?? 'subdomain'),
      ...(resource.origin === 'builtin' ? checkRequired(object, resource.type) : []),
      ...(strategy.validate?.(object) ?? [])
    ])
    checkSize(object)
    if (this.collection(resource).get({ namespace, name: object.metadata.name }) !== undefined) {
      throw alreadyExists(resource, object.metadata.name)
    }
    if (write.dryRun) return object
    return presented(resource, this.collection(resource).put(stored(resource, object)))
  }

  /** Writes `object` in place of `current`, as far as the sub-resource lets it. */
  #replace(
    resource: Resource,
    current: ApiObject,
    object: MutableObject,
    write: WriteContext,
    applied?: Owners
  ): ApiObject {
    const strategy = this.#strategy(resource)
    const next = confineUpdate(resource, current, object, write.subresource)
    strategy.setDefaults?.(next)
    if (write.subresource === '') strategy.prepareUpdate?.(next, current, this.#context())
    const changed = next as unknown as ApiObject
    countGeneration(strategy, current, next)
    this.#refuseInvalid(resource, changed, [
      ...checkMetadataUpdate(changed, current),
      ...(write.subresource === 'status' && resource.origin === 'builtin'
        ? []
        : [
            ...checkMetadata(changed, strategy.nameForm ?? 'subdomain'),
            ...(resource.origin === 'builtin' ? checkRequired(changed, resource.type) : []),
            ...(strategy.validate?.(changed) ?? []),
            ...(strategy.validateUpdate?.(changed, current) ?? [])
          ])
    ])
    checkSize(changed)
    const owned = withOwners(changed, applied ?? this.#ownersAfter(resource, current, changed, write))
    if (write.dryRun || equal(owned, current)) return owned
    const collection = this.collection(resource)
    if (mayGo(owned)) return presented(resource, collection.remove(stored(resource, owned)))
    return presented(resource, collection.put(stored(resource, owned)))
  }

  #ownersAfter(resource: Resource, current: ApiObject, next: ApiObject, write: WriteContext): Owners {
    const given = next.metadata.managedFields
    const base = readOwners(given === undefined ? current.metadata.managedFields : given)
    const [before, after] = [this.#ownable(resource, current, write), this.#ownable(resource, next, write)]
    return ownersAfterUpdate(base, before, after, this.#writing(resource, write))
  }

  #ownable(resource: Resource, object: JsonObject, write: WriteContext): JsonObject {
    return ownable(object, write.subresource === 'status' || !statusApart(resource))
  }

  #writing(resource: Resource, write: WriteContext): Writing {
    return {
      manager: this.#manager(resource, write, 'Update'),
      type: resource.type,
      time: timestamp(this.#clock.now())
    }
  }

  #manager(resource: Resource, write: WriteContext, operation: 'Apply' | 'Update'): Manager {
    return {
      name: write.manager,
      operation,
      apiVersion: apiVersionOf(resource),
      subresource: write.subresource
    }
  }

  #refuseInvalid(resource: Resource, object: ApiObject, problems: readonly Problem[]): void {
    if (problems.length === 0) return
    const { name, generateName = '' } = object.metadata
    const unique = new Map(problems.map(problem => [`${problem.field}\n${problem.reason}`, problem]))
    throw invalid(resource, name || generateName, [...unique.values()])
  }

  /** Namespaces exist before what is in them, and take nothing new while they are being deleted. */
  #admitToNamespace(resource: Resource, object: MutableObject): void {
    if (!resource.namespaced) return
    const { namespace = '', name } = object['metadata'] as Metadata
    const found = this.storage.collection('/namespaces').get({ namespace: '', name: namespace })
    if (found === undefined) throw notFound({ group: '', plural: 'namespaces' }, namespace)
    if (found.metadata.deletionTimestamp !== undefined) {
      throw forbidden(
        resource,
        name,
        `unable to create new content in namespace ${namespace} because it is being terminated`
      )
    }
  }

  #strategy(resource: Resource): Strategy {
    if (resource.origin === 'builtin')
      return this.#strategies.get(`${resource.group}/${resource.plural}`) ?? {}
    let strategy = this.#customStrategies.get(resource)
    if (strategy === undefined) {
      strategy = customStrategy(resource)
      this.#customStrategies.set(resource, strategy)
    }
    return strategy
  }

  #context(): KindContext {
    return {
      find: (collection, namespace, name) => this.storage.collection(collection).get({ namespace, name }),
      all: collection => this.storage.collection(collection).all(),
      now: this.#clock.now()
    }
  }
}

function withOwners(object: ApiObject, owners: Owners): ApiObject {
  const { managedFields: _replaced, ...metadata } = object.metadata
  const managedFields = writeOwners(owners)
  const owned = managedFields.length === 0 ? metadata : { ...metadata, managedFields }
  return { ...object, metadata: owned }
}
