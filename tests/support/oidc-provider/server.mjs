// A certified OpenID provider as the token endpoint of one tenant. oidc_provider.py starts it.
//
// The first line on stdin is its settings, each further one a client; after each, it prints a
// line. It ends with stdin.
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';

import Provider from 'oidc-provider';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const settings = JSON.parse((await lines.next()).value);
const clients = new Map();

// What the provider keeps: our clients, and the assertions that have been used.
class Store {
  #kept = new Map();

  constructor(name) {
    if (name === 'Client') this.#kept = clients;
  }

  async find(id) {
    return this.#kept.get(id);
  }

  async upsert(id, payload) {
    this.#kept.set(id, payload);
  }
}

// The resource of `https://outlook.office365.com/.default`.
const resource = (ctx) => ctx.oidc.params.scope.replace(/\/\.default$/, '');

function configuration() {
  return {
    adapter: Store,
    cookies: { keys: ['no cookie is ever set'] },
    clientAuthMethods: ['client_secret_post', 'private_key_jwt'],
    extraClientMetadata: { properties: ['object_id'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: resource,
        getResourceServerInfo: (ctx, audience) => ({
          audience,
          scope: '',
          accessTokenFormat: 'jwt',
          accessTokenTTL: 3600,
        }),
      },
    },
    formats: {
      customizers: {
        // Entra's claims, and the header that Dovecot wants.
        jwt(ctx, token, jwt) {
          jwt.header = { typ: 'JWT' };
          Object.assign(jwt.payload, {
            iss: settings.token_issuer,
            appid: token.client.clientId,
            idtyp: 'app',
            oid: token.client.object_id,
            sub: token.client.object_id,
            roles: ['IMAP.AccessAsApp'],
            tid: settings.tenant_id,
            ver: '1.0',
          });
        },
      },
    },
    jwks: { keys: [settings.signing_key] },
    responseTypes: ['none'],
    routes: { token: '/oauth2/v2.0/token' },
    ttl: { ClientCredentials: 3600 },
  };
}

const mount = `/${settings.tenant_id}`;
// Entra has it there, and Microsoft's libraries ask for it first.
const entraDiscovery = `${mount}/v2.0/.well-known/openid-configuration`;
const server = createServer({ cert: settings.certificate, key: settings.key });

server.listen(0, '127.0.0.1', async () => {
  const { port } = server.address();
  const provider = new Provider(`https://127.0.0.1:${port}${mount}`, configuration());
  provider.on('server_error', (ctx, error) => console.error(error));
  const answer = provider.callback();
  server.on('request', (request, response) => {
    if (request.url === entraDiscovery) request.url = request.url.replace('/v2.0/', '/');
    request.originalUrl = request.url;
    if (request.url.startsWith(`${mount}/`)) request.url = request.url.slice(mount.length);
    answer(request, response);
  });
  console.log(port);
  for await (const line of lines) {
    const client = JSON.parse(line);
    clients.set(client.client_id, client);
    console.log('added');
  }
  process.exit();
});
