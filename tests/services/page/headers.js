/** What a site sees of a request of this page. */
export const headers = async (url) => (await fetch(url)).json();
