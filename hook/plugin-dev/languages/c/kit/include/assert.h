// assert of the C library as the sandbox has it: a plugin that is wrong about itself says where.

#include <stddef.h>

_Noreturn void volhook_panic(const char *message);

#define VOLHOOK_ASSERT_TEXT(value) VOLHOOK_ASSERT_TEXT_(value)
#define VOLHOOK_ASSERT_TEXT_(value) #value

#undef assert
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition)                                                                                              \
    ((condition) ? (void)0                                                                                             \
                 : volhook_panic("assertion failed: " #condition " at " __FILE__ ":" VOLHOOK_ASSERT_TEXT(__LINE__)))
#endif
