// What the broker answers and tells is what the types of the driver's package promise: the compiler says so.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { HarnessDriverClient } from '@agent-relay/harness-driver';

import { atEnd, folder, startBroker, until } from './support.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));

/** Kinds of events that the package knows nothing of; its clients pass over them. */
const OURS = new Set([
  'agent_blocked', 'agent_unblocked', 'dead_letter_added', 'dead_letter_redelivered', 'deliveries_kept', 'delivery_blocked',
  'delivery_deferred', 'dialog_answered', 'node_link', 'node_registered', 'replay_gap', 'turn_started',
]);

test('every event and every list is of the type that the client gives it', async (t) => {
  const dir = folder(t);
  const broker = await startBroker(t, dir);
  const client = HarnessDriverClient.connect({ connectionPath: broker.file });
  atEnd(t, () => client.disconnect());
  const events = [];
  client.onEvent((event) => events.push(event));
  client.connectEvents();
  const heard = (kind, name) => until(() => events.find((e) => e.kind === kind && e.name === name), `${kind} of ${name}`);

  const once = { enabled: true, max_restarts: 5, cooldown_ms: 10, max_consecutive_failures: 2 };
  const spawned = await client.spawnPty({ name: 'ada', cli: 'cat', args: ['-u'], channels: ['general', 'ops'], team: 'dock', idleThresholdSecs: 1, restartPolicy: once });
  await heard('worker_ready', 'ada');
  const lists = [{ type: 'ListAgent[]', value: await client.listAgents() }];
  await client.sendMessage({ to: 'ada', from: 'bob', text: 'good morning' });
  await heard('delivery_verified', 'ada');
  await client.setInboundDeliveryMode('ada', 'manual_flush');
  await client.sendMessage({ to: 'ada', from: 'bob', text: 'held back' });
  const pending = await until(async () => { const all = await client.getPending('ada'); return all.length && all; }, 'the held message');
  lists.push({ type: 'PendingRelayMessage[]', value: pending }, { type: 'BrokerStatus', value: await client.getStatus() });
  await client.flushPending('ada');
  await client.setInboundDeliveryMode('ada', 'auto_inject');
  await client.subscribeChannels('ada', ['news']);
  await client.unsubscribeChannels('ada', ['news']);
  lists.push({ type: 'PtySnapshot', value: await client.snapshot('ada') });
  await heard('agent_idle', 'ada');
  const [{ pid }] = await client.listAgents();
  process.kill(pid, 'SIGSEGV');
  await heard('agent_restarted', 'ada');
  await until(async () => (await client.listAgents())[0].pid, 'ada to run again');
  process.kill((await client.listAgents())[0].pid, 'SIGKILL');
  await heard('agent_permanently_dead', 'ada');
  lists.push({ type: 'CrashInsightsResponse', value: await client.getCrashInsights() });

  const short = await client.spawnPty({ name: 'eve', cli: 'sh', args: ['-c', 'echo soon over; read x; exit 3'] });
  await heard('worker_ready', 'eve');
  lists.push({ type: "Awaited<ReturnType<HarnessDriverClient['getMetrics']>>", value: await client.getMetrics() });
  await client.sendInput('eve', '\r');
  assert.equal((await short.waitForExit(10_000)).code, 3);
  const free = await client.spawnPty({ name: 'fay', cli: 'cat' });
  await free.release('done');
  await heard('agent_released', 'fay');
  await assert.rejects(client.spawnPty({ name: 'gus', cli: 'no-such-program' }));
  await heard('worker_error', 'gus');

  // What a person is to find in them, besides their types.
  const of = (kind, name = 'ada') => events.filter((e) => e.kind === kind && e.name === name);
  assert.deepEqual([of('agent_spawned')[0].cli, of('agent_spawned')[0].parent], ['cat', 'Dashboard']);
  assert.deepEqual(of('agent_exited').map(({ signal }) => signal), ['SIGSEGV', 'SIGKILL']);
  const lives = ['agent_spawned', 'worker_ready', 'agent_idle', 'agent_exited', 'agent_exit', 'agent_restarting', 'agent_restarted', 'agent_permanently_dead'];
  for (const kind of lives) {
    for (const { generation } of of(kind)) assert.match(generation, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, kind);
    assert.equal(new Set(of(kind).map(({ generation }) => generation)).size, 1, kind);
  }
  const { recent, patterns, total_crashes: crashes } = lists.find(({ type }) => type === 'CrashInsightsResponse').value;
  assert.deepEqual([crashes, recent.map(({ category }) => category)], [2, ['segfault', 'oom']]);
  assert.deepEqual(patterns.map(({ agents }) => agents), [['ada'], ['ada']]);
  assert.ok(spawned.pid > 0);

  const kinds = new Set(events.map(({ kind }) => kind));
  await compiled(dir, [
    ...events.filter(({ kind }) => !OURS.has(kind)).map((value) => ({ type: 'BrokerEvent', value })),
    ...lists,
  ], `${[...kinds].sort()}`);
});

/** Whether the compiler takes each value for one of its type. Keys beyond those of the type are additions, and allowed. */
async function compiled(dir, values, about) {
  const lines = values.map(({ type, value }) => {
    // Held messages are told without a delivery's id, by which other brokers' clients know them.
    const known = value.kind === 'delivery_queued' && value.reason ? { delivery_id: '', ...value } : value;
    return `fits<${type}>()(${JSON.stringify(known)});`;
  });
  const file = path.join(here, `typed-${process.pid}.ts`);
  fs.writeFileSync(file, [
    "import type * as T from '@agent-relay/harness-driver';",
    "import type { BrokerEvent, BrokerStatus, CrashInsightsResponse, HarnessDriverClient, ListAgent, PendingRelayMessage, PtySnapshot } from '@agent-relay/harness-driver';",
    'declare function fits<T>(): <const V extends Loose<T>>(value: V) => void;',
    'type Loose<T> = T extends (infer E)[] ? readonly Loose<E>[] : T extends object ? { readonly [K in keyof T]: Loose<T[K]> } : T;',
    ...lines,
  ].join('\n'));
  const tsc = path.join(here, 'node_modules/typescript/bin/tsc');
  const args = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext', file];
  try {
    await promisify(execFile)(process.execPath, [tsc, ...args], { cwd: dir });
  } catch (error) {
    const shown = error.stdout.split('\n').slice(0, 30).map((line) => {
      const at = /\((\d+),/.exec(line);
      return at ? `${line}\n    ${lines[Number(at[1]) - 5] ?? ''}` : line;
    });
    assert.fail(`of ${about}:\n${shown.join('\n')}`);
  } finally {
    fs.rmSync(file, { force: true });
  }
}
