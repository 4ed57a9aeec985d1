// What people can add to a workspace with programs of their own: actions.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { NodeProviderClient } from '@relaycast/sdk';

import { atEnd, ended, folder, inbox, live, register, startBroker, startEngine, within, workspace } from './support.mjs';

async function serve(t, engine, node, options) {
  const provider = new NodeProviderClient({ baseUrl: engine.url, nodeToken: node.token, nodeId: node.id, nodeName: node.name, ...options });
  const over = provider.serve();
  atEnd(t, async () => { await provider.stop(); await over; });
  return within(provider.whenRegistered(), 'the provider to be registered');
}

test('a program serves an action, and an agent calls it', async (t) => {
  const engine = await startEngine(t, folder(t));
  const relay = workspace(engine);
  const node = await relay.nodes.create({ name: 'calc' });
  const reply = await serve(t, engine, node, {
    provider: { name: 'sums' },
    capabilities: {
      add: { kind: 'action', global: true, handler: ({ a, b }) => ({ sum: a + b }) },
      fail: { kind: 'action', global: true, handler: () => { throw new Error('not today'); } },
    },
  });
  assert.equal(reply.provider.name, 'sums');
  assert.deepEqual(reply.accepted_capabilities.map(({ name, accepted }) => [name, accepted]), [['add', true], ['fail', true]]);
  const { me } = await register(t, relay, 'ada');
  assert.ok((await relay.actions.list()).some(({ name }) => name === 'add'));
  const sum = await ended(me, 'add', (await me.actions.invoke('add', { a: 2, b: 3 })).invocationId);
  assert.deepEqual([sum.status, sum.output], ['completed', { sum: 5 }]);
  const failure = await ended(me, 'fail', (await me.actions.invoke('fail', {})).invocationId);
  assert.equal(failure.status, 'failed');
  assert.match(failure.error, /not today/);
});

test('a program beside a broker adds an action to the same node, and both go on', async (t) => {
  const dir = folder(t);
  const broker = await startBroker(t, dir, { agents: { echo: 'cat' } });
  const relay = workspace(broker);
  await live(relay, broker.name);
  const { node_token: token, node_id: id } = await broker.api('GET', '/api/session');
  await serve(t, { url: broker.engine_url }, { token, id, name: broker.name }, {
    provider: { name: 'helper' },
    capabilities: { shout: { kind: 'action', global: true, handler: ({ text }) => ({ text: text.toUpperCase() }) } },
  });
  const { me } = await register(t, relay, 'ada');
  assert.ok((await relay.actions.list()).some(({ name }) => name === 'shout'), 'it is listed');
  const shout = await ended(me, 'shout', (await me.actions.invoke('shout', { text: 'hey' })).invocationId);
  assert.deepEqual(shout.output, { text: 'HEY' });
  const spawned = await ended(me, 'spawn', (await me.actions.invoke('spawn', { name: 'w2', cli: 'cat', targetNode: broker.name })).invocationId);
  assert.equal(spawned.status, 'completed');
  assert.equal((await relay.agents.get('echo')).status === 'offline', false);
});

test('an agent serves an action itself, and its caller hears the result', async (t) => {
  const engine = await startEngine(t, folder(t));
  const relay = workspace(engine);
  const [ada, bob] = [await register(t, relay, 'ada'), await register(t, relay, 'bob')];
  await inbox(ada.me);
  await inbox(bob.me);
  await relay.actions.register({ name: 'echo', description: 'says it again', handlerAgent: 'bob', inputSchema: {} });
  bob.me.on.actionInvoked(({ actionName, invocationId, input }) => {
    bob.me.actions.completeInvocation(actionName, invocationId, { output: { again: input.text } });
  });
  const heard = new Promise((ok) => { ada.me.on.actionCompleted(ok); });
  const { invocationId } = await ada.me.actions.invoke('echo', { text: 'hey' });
  const event = await within(heard, 'the result to be heard');
  assert.deepEqual([event.invocationId, event.output], [invocationId, { again: 'hey' }]);
  assert.equal((await ended(ada.me, 'echo', invocationId)).status, 'completed');
});
