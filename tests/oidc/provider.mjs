// A real OpenID provider (npm's oidc-provider) on loopback, for the suite. Its own login and
// consent pages take any login; the user's groups are dev and ops.
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { pathToFileURL } from 'node:url';

const { PORT, CERT, KEY, KEYS_FILE, KEY_ID, MODULES } = process.env;
const entry = `${MODULES}/node_modules/oidc-provider/lib/index.js`;
const { default: Provider } = await import(pathToFileURL(entry).href);

// The key that signs is the first; older ones stay published.
const keys = existsSync(KEYS_FILE) ? JSON.parse(readFileSync(KEYS_FILE, 'utf8')) : [];
if (!keys.some((key) => key.kid === KEY_ID)) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  keys.unshift({ ...privateKey.export({ format: 'jwk' }), kid: KEY_ID, use: 'sig', alg: 'RS256' });
  writeFileSync(KEYS_FILE, JSON.stringify(keys));
}

const provider = new Provider(`https://localhost:${PORT}`, {
  clients: [{
    client_id: 'cluster-proxy',
    client_secret: 'a-secret-of-this-suite-alone',
    redirect_uris: ['https://client.invalid/callback'],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  jwks: { keys },
  claims: { openid: ['sub', 'groups', 'email', 'email_verified'] },
  conformIdTokenClaims: false,
  pkce: { required: () => false },
  cookies: { keys: ['a-cookie-key-of-this-suite-alone'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id, groups: ['dev', 'ops'], email: `${id}@example.com`, email_verified: true,
    }),
  }),
});
createServer({ cert: readFileSync(CERT), key: readFileSync(KEY) }, provider.callback())
  .listen(Number(PORT), '127.0.0.1', () => console.log(`issuer ready, signing with ${KEY_ID}`));
