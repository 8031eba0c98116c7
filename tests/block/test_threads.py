"""The pool of threads for calls that block, and the iothreads that set its bounds."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'client'))
from rhea_client import CommandError, Rhea, main, until  # noqa: E402


def refused(s, prop, value):
    try:
        s.run('qom-set', {'path': '/objects/a', 'property': prop, 'value': value})
    except CommandError as e:
        return e.desc
    raise AssertionError('%s=%s was taken' % (prop, value))


def test_pool_of_threads():
    with Rhea('-object', 'iothread,id=a,aio-max-batch=7') as r, r.connect() as s:
        def threads():
            names = []
            for task in os.listdir('/proc/%d/task' % r.process.pid):
                try:
                    with open('/proc/%d/task/%s/comm' % (r.process.pid, task)) as f:
                        names.append(f.read().strip())
                except (FileNotFoundError, ProcessLookupError):     # it has just ended
                    pass
            return names.count('pool')

        def put(prop, value):
            s.run('qom-set', {'path': '/objects/a', 'property': prop, 'value': value})

        assert s.run('query-iothreads')[0]['aio-max-batch'] == 7
        put('thread-pool-min', 5)
        assert until(lambda: threads() == 5)
        assert 'thread-pool' in refused(s, 'thread-pool-max', 4)
        assert s.run('qom-get', {'path': '/objects/a', 'property': 'thread-pool-min'}) == 5
        put('thread-pool-min', 1)
        put('thread-pool-max', 2)       # who is too many ends
        assert until(lambda: 1 <= threads() <= 2)
        assert 'range' in refused(s, 'aio-max-batch', -1)
        # the strictest counts; who goes takes its bounds along
        s.run('object-add', {'qom-type': 'iothread', 'id': 'b', 'thread-pool-min': 4, 'thread-pool-max': 4})
        assert threads() <= 2
        s.run('object-del', {'id': 'a'})
        assert until(lambda: threads() == 4)


main(globals())
